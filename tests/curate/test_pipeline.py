"""`build_lvd` from end to end on a few pictures: every file's fate, and the dataset that comes out."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
from PIL import Image

from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.engine.runner import open_runner
from lvd_curate.errors import InputError
from lvd_curate.lineage import list_drops
from lvd_curate.pipeline import Build, build_lvd, load_models
from lvd_curate.recipes import BuildConfig


def lineage_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = pl.read_parquet(out / "lineage.parquet").to_dicts()
    named = {f"{row['role']}/{row['path']}": row for row in rows}
    assert len(named) == len(rows)
    return named


def test_every_file_has_its_fate_and_the_dataset_opens(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_lvd(config, out)
    lineage = lineage_of(out)
    inputs = {
        f"{role}/{path.relative_to(world / folder)}"
        for role, folder in (("pool", "pool"), ("seeds", "seeds"), ("exclude", "test"))
        for path in (world / folder).rglob("*.[jp][pn]g")
    }
    assert set(lineage) == inputs
    fates = {name: (row["stage"], row["reason"]) for name, row in lineage.items()}
    assert fates["pool/b/exact.jpg"] == ("screen", "exact copy")
    assert fates["pool/b/seed.jpg"] == ("screen", "exact copy")
    assert fates["pool/b/small.jpg"] == ("deduplicate", "near-duplicate")
    assert fates["pool/b/weak.jpg"] == ("deduplicate", "near-duplicate")
    assert lineage["pool/b/weak.jpg"]["partner_id"] == lineage["pool/a/02.jpg"]["id"]
    assert lineage["pool/b/weak.jpg"]["score"] > 0.9
    for leak, of in (("leak.jpg", "200.jpg"), ("leak-weak.jpg", "201.jpg")):
        assert fates[f"pool/b/{leak}"][0] == "decontaminate"
        assert lineage[f"pool/b/{leak}"]["partner_id"] == lineage[f"exclude/{of}"]["id"]

    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    kept = {row["id"] for row in lineage.values() if row["status"] == "kept"}
    assert set(rows["id"]) == kept
    assert len(rows) == len(kept)
    assert sum(row["source"] == "seeds" for row in rows) == 10
    retrieved = [row for row in rows if row["source"] == "pool"]
    assert retrieved
    assert all(row["retrieved_by"] and row["seed"] == "seeds" and len(row["cluster"]) == 1 for row in retrieved)
    assert all(isinstance(row["image"], Image.Image) for row in rows)


def test_parquet_inputs_give_the_same_images_as_folders(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    files = sorted((world / "pool").rglob("*.jpg"))
    table = datasets.Dataset.from_dict({"image": [{"bytes": file.read_bytes(), "path": None} for file in files]})
    (tmp_path / "hf/data").mkdir(parents=True)
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path / "hf/data/train-00000-of-00001.parquet")
    assert build_lvd(config, tmp_path / "a")
    assert build_lvd(replace(config, pool={"pool": str(tmp_path / "hf")}), tmp_path / "b")
    a, b = (pl.read_parquet(tmp_path / name / "data") for name in "ab")
    assert a["id"].equals(b["id"])


def test_a_dataset_is_a_pool_again(config: BuildConfig, tmp_path: Path) -> None:
    assert build_lvd(config, tmp_path / "first")
    assert build_lvd(replace(config, pool={"again": str(tmp_path / "first")}, exclude={}), tmp_path / "second")
    excluded = replace(config, exclude={"all": str(tmp_path / "first")})
    with pytest.raises(InputError, match="nothing is left of the pool"):
        build_lvd(replace(excluded, pool={"again": str(tmp_path / "first")}), tmp_path / "third")


def test_seeds_can_stay_out_and_rebalancing_keeps_its_target(config: BuildConfig, tmp_path: Path) -> None:
    config = replace(
        config,
        materialize=replace(config.materialize, include_seeds=False),
        rebalance=replace(config.rebalance, target_size=4, levels=[3, 2]),
    )
    assert build_lvd(config, tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out/data")
    assert rows["source"].to_list() == ["pool"] * 4
    assert rows["cluster"].list.len().to_list() == [3] * 4
    lineage = lineage_of(tmp_path / "out")
    assert lineage["seeds/100.jpg"]["reason"] == "seed: left out by materialize.include_seeds"
    assert lineage["pool/b/seed.jpg"]["reason"] != "exact copy"
    assert {"rebalance"} <= {row["stage"] for row in lineage.values()}


def test_the_first_cluster_is_the_flat_one_for_seeds_and_pool_alike(config: BuildConfig, tmp_path: Path) -> None:
    config = replace(
        config,
        cluster=replace(config.cluster, num_clusters=5),
        rebalance=replace(config.rebalance, target_size=6, levels=[3, 2]),
    )
    assert build_lvd(config, tmp_path / "out")
    flat = pl.read_parquet(next((tmp_path / "out.work").glob("cluster-*/*.parquet")))
    rows = pl.read_parquet(tmp_path / "out/data").join(flat, on="id", suffix="_flat")
    assert rows["source"].unique().sort().to_list() == ["pool", "seeds"]
    assert rows["cluster"].list.first().equals(rows["cluster_flat"].alias("cluster"))


@pytest.mark.parametrize("include_seeds", [True, False])
@pytest.mark.parametrize("drop_seeds", [True, False])
def test_seeds_that_touch_an_excluded_set_guide_nothing(
    config: BuildConfig, world: Path, tmp_path: Path, include_seeds: bool, drop_seeds: bool
) -> None:
    seeds = shutil.copytree(world / "seeds", tmp_path / "seeds")
    image = Image.open(world / "test/200.jpg")
    image.save(seeds / "touching.jpg", quality=60)
    config = replace(
        config,
        seeds={"seeds": str(seeds)},
        materialize=replace(config.materialize, include_seeds=include_seeds),
        decontaminate=replace(config.decontaminate, seeds=drop_seeds),
    )
    assert build_lvd(config, tmp_path / "out")
    touching = lineage_of(tmp_path / "out")["seeds/touching.jpg"]["id"]
    picks = pl.read_parquet(next((tmp_path / "out.work").glob("retrieve-*/*.parquet")))
    assert (touching in picks["seed_id"].to_list()) is not drop_seeds


def test_a_copy_detection_encoder_adds_what_hashes_miss(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    pool = shutil.copytree(world / "pool", tmp_path / "pool")
    buffer = io.BytesIO()
    Image.open(world / "pool/a/03.jpg").crop((50, 30, 92, 62)).rotate(90, expand=True).save(buffer, "JPEG")
    (pool / "b/crop.jpg").write_bytes(buffer.getvalue())
    config = replace(
        config, pool={"pool": str(pool)}, exclude={}, materialize=replace(config.materialize, include_seeds=False)
    )
    assert build_lvd(config, tmp_path / "hashes")
    assert lineage_of(tmp_path / "hashes")["pool/b/crop.jpg"]["stage"] != "deduplicate"
    anything = replace(config.deduplicate, encoder=config.embed.encoder, threshold=-1.0)
    assert build_lvd(replace(config, deduplicate=anything), tmp_path / "embedding")
    stages = [row["stage"] for name, row in lineage_of(tmp_path / "embedding").items() if name.startswith("pool")]
    assert stages.count("materialize") == 1
    assert lineage_of(tmp_path / "embedding")["pool/b/crop.jpg"]["stage"] == "deduplicate"
    assert "no copy-detection encoder" in (tmp_path / "hashes/README.md").read_text()
    assert "no copy-detection encoder" not in (tmp_path / "embedding/README.md").read_text()


def test_one_image_and_no_copies(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    for name, file in (("pool", "pool/a/00.jpg"), ("seeds", "seeds/101.jpg")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes((world / file).read_bytes())
    config = replace(config, pool={"p": str(tmp_path / "pool")}, seeds={"s": str(tmp_path / "seeds")}, exclude={})
    assert build_lvd(config, tmp_path / "out")
    assert len(pl.read_parquet(tmp_path / "out/data")) == 2
    assert "No two images are near-duplicates" in (tmp_path / "out/report.html").read_text()


def test_unusable_sets_are_named(config: BuildConfig, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"the seeds hold no usable image: x\.jpg is not an image"):
        build_lvd(replace(config, seeds={"bad": str(tmp_path / "bad")}), tmp_path / "out")


def test_an_excluded_image_guards_though_its_copy_in_the_pool_is_unsafe(
    config: BuildConfig, world: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("00.jpg", "01.jpg"):
        (pool / name).write_bytes((world / "pool/a" / name).read_bytes())
    leaked = (world / "test/200.jpg").read_bytes()
    (pool / "same.jpg").write_bytes(leaked)
    Image.open(io.BytesIO(leaked)).save(pool / "weak.jpg", quality=60)
    config = replace(config, pool={"pool": str(pool)})
    with open_runner(tmp_path / "work", config.execution) as runner:
        build = Build(config, runner, load_models(config, runner))
        unsafe = list_drops(pl.DataFrame({"id": [content_id(leaked)]}), "moderate", "nsfw")
        clean = build.remove_copies(build.screen_inputs(), unsafe)
    assert clean.touches["id"].to_list() == [content_id((pool / "weak.jpg").read_bytes())]
