from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lvd_curate.columns import EMBEDDED
from lvd_curate.config import ScreenConfig
from lvd_curate.errors import InputError
from lvd_curate.stages.embed import embed
from lvd_curate.stages.ingest import list_images
from lvd_curate.stages.screen import screen


def screened(folder: Path) -> pl.DataFrame:
    listing = pl.concat(list_images("pool", "p", str(folder), folder))
    files = pl.concat([listing, screen(listing, ScreenConfig())], how="horizontal")
    return files.filter(pl.col("reason").is_null())


def stack(table: pl.DataFrame) -> np.ndarray:
    return np.stack([np.frombuffer(vector, dtype="<f2").astype(np.float32) for vector in table["embedding"]])


def test_one_unit_vector_per_image_whatever_the_batch(world: Path, encoder: Path) -> None:
    files = screened(world / "pool/a")
    table = embed(files, str(encoder), batch_size=7, precision="fp32", device="cpu")
    assert table.schema == EMBEDDED
    assert table["id"].equals(files["id"])
    vectors = stack(table)
    assert vectors.shape == (30, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    one = stack(embed(files[4:5], str(encoder), 64, "fp32", "cpu"))
    np.testing.assert_allclose(one[0], vectors[4], atol=2e-3)


def test_a_vector_that_is_not_finite_is_null(world: Path, tmp_path: Path) -> None:
    class Zero(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.zeros(pixels.shape[0], 4)

    torch.jit.script(Zero()).save(tmp_path / "zero.pt")
    table = embed(screened(world / "seeds"), f"torchscript:{tmp_path / 'zero.pt'}", 4, "fp32", "cpu")
    assert table["embedding"].null_count() == 10


def test_a_file_that_vanished_since_screening_is_named(tmp_path: Path, world: Path, encoder: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((world / "seeds/100.jpg").read_bytes())
    files = screened(tmp_path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg could be read"):
        embed(files, str(encoder), 4, "fp32", "cpu")
