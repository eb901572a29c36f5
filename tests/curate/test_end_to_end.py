"""The bars of the whole tool, on a rendered corpus whose every planted relation is known."""

from pathlib import Path

import datasets
import polars as pl
import pytest

from lvd_curate.config import build_config
from lvd_curate.pipeline import build_lvd
from lvd_curate.recipes import BuildConfig
from lvd_curate.sample_corpus import build_sample_corpus

FOUND_BY_HASHES = ("exact_copy", "jpeg", "resize", "flip")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "corpus"
    build_sample_corpus(root, images=300, seed=5, workers=2)
    return root


@pytest.fixture(scope="module")
def curated(corpus: Path, encoder: Path) -> Path:
    sets = {
        "pool": {"pool": str(corpus / "pool")},
        "seeds": {"s": str(corpus / "seeds")},
        "exclude": {"t": str(corpus / "test")},
    }
    words = [f"embed.encoder={encoder}", "execution.engine=inline", "execution.device=cpu"]
    out = corpus.parent / "curated"
    assert build_lvd(build_config(BuildConfig, None, words, sets), out)
    return out


@pytest.fixture(scope="module")
def fates(corpus: Path, curated: Path) -> pl.DataFrame:
    """Truth beside lineage: one row per pool file, `root` the original it was made from."""
    truth = pl.read_parquet(corpus / "truth.parquet").with_columns(pl.col("path", "of").str.strip_prefix("pool/"))
    lineage = pl.read_parquet(curated / "lineage.parquet").filter(pl.col("role") == "pool")
    fates = truth.join(lineage, on="path", how="full", coalesce=True)
    assert fates["id"].null_count() == fates["kind"].null_count() == 0
    return fates.with_columns(root=pl.coalesce("of", "path"))


def test_lineage_names_every_file_once(corpus: Path, curated: Path) -> None:
    lineage = pl.read_parquet(curated / "lineage.parquet")
    assert lineage.select("role", "source", "path").is_unique().all()
    files = {
        str(path.relative_to(corpus))
        for name in ("pool", "seeds")
        for path in (corpus / name).rglob("*")
        if path.is_file()
    }
    named = lineage.filter(pl.col("role") != "exclude").select(pl.concat_str("role", "path", separator="/")).to_series()
    assert set(named) == files
    assert lineage.filter(pl.col("role") == "exclude").height == len(
        datasets.Dataset.from_parquet(str(next((corpus / "test/data").iterdir())))
    )


@pytest.mark.parametrize("kind", FOUND_BY_HASHES)
def test_planted_copies_are_found(fates: pl.DataFrame, kind: str) -> None:
    """Of a copy and its original at most one stays: recall 1, and so at least 0.99."""
    roots = fates.filter(pl.col("kind") == kind)["root"]
    assert len(roots)
    together = fates.filter(
        pl.col("root").is_in(roots.to_list()) & pl.col("kind").is_in([*FOUND_BY_HASHES, "original"])
    )
    undropped = together.filter(~pl.col("stage").is_in(["screen", "deduplicate"])).group_by("root").len()
    assert undropped["len"].max() == 1


def test_no_two_originals_are_taken_for_copies(fates: pl.DataFrame) -> None:
    root_of = dict(fates.sort(pl.col("kind") != "original").unique("id", keep="first").select("id", "root").rows())
    joined = fates.filter(pl.col("stage") == "deduplicate").with_columns(
        other=pl.col("partner_id").replace_strict(root_of)
    )
    assert len(joined)
    assert (joined["root"] == joined["other"]).all()
    touched = fates.filter(pl.col("stage") == "decontaminate")
    assert touched["kind"].unique().to_list() == ["test_copy"]


def test_copies_of_test_images_and_broken_files_are_gone(fates: pl.DataFrame) -> None:
    for kind in ("test_copy", "broken"):
        chosen = fates.filter(pl.col("kind") == kind)
        assert len(chosen)
        assert chosen["status"].unique().to_list() == ["dropped"]


def test_the_dataset_opens_with_what_lineage_kept(curated: Path, tmp_path: Path) -> None:
    opened = datasets.load_dataset(str(curated), split="train", cache_dir=str(tmp_path))
    lineage = pl.read_parquet(curated / "lineage.parquet").filter(pl.col("status") == "kept")
    assert sorted(opened["id"]) == lineage["id"].sort().to_list()
    assert opened[0]["image"].mode == "RGB"
    assert {"pool", "s"} == set(opened["source"])
