"""`curate calibrate`: a sample of the user's own pool, a table, a picture and a knob to set."""

from pathlib import Path

import polars as pl
import pytest

from lvd_curate import DedupRecipe, InputError, build_config, calibrate_pool
from lvd_curate.calibration import describe

HERE = {"execution": {"engine": "inline", "device": "cpu"}}


def test_a_pool_is_calibrated(world: Path, tmp_path: Path) -> None:
    config = build_config(DedupRecipe, given=HERE | {"pool": {"p": str(world / "pool")}})
    found = calibrate_pool(config, tmp_path / "t.parquet", sample=12)
    assert pl.read_parquet(tmp_path / "t.parquet").equals(found.table)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    text = describe(found, config)
    assert f"recommended: deduplicate.hash_correlation={found.recommended:.2f}" in text
    assert "jpeg 15" in text
    again = calibrate_pool(config, tmp_path / "again.parquet", sample=12)
    assert again.table.equals(found.table)


def test_a_pool_without_two_images_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.jpg").write_bytes((world / "pool/a/00.jpg").read_bytes())
    (tmp_path / "pool/same.jpg").write_bytes((world / "pool/a/00.jpg").read_bytes())
    config = build_config(DedupRecipe, given=HERE | {"pool": {"p": str(tmp_path / "pool")}})
    with pytest.raises(InputError, match="two usable images; of 2 drawn from the pool, 1 is"):
        calibrate_pool(config, tmp_path / "t.parquet", sample=12)
    assert not (tmp_path / "t.parquet").exists()
