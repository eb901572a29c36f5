"""`build_lvd` from end to end on a few pictures: what comes out, and that nothing but the inputs decides it."""

import io
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
from PIL import Image

from lvd_curate.config import build_config
from lvd_curate.engine import artifacts
from lvd_curate.errors import InputError
from lvd_curate.pipeline import build_lvd
from lvd_curate.recipes import BuildConfig


@pytest.fixture
def config(world: Path, encoder: Path) -> BuildConfig:
    sets = {
        role: {role: str(world / folder)}
        for role, folder in (("pool", "pool"), ("seeds", "seeds"), ("exclude", "test"))
    }
    words = [f"embed.encoder={encoder}", "execution.engine=inline", "execution.device=cpu", "retrieve.neighbours=1"]
    return build_config(BuildConfig, None, words, sets)


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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


def test_started_again_it_says_so_and_refuses_other_inputs(config: BuildConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_lvd(config, out)
    before = read_tree(out)
    assert not build_lvd(config, out)
    assert read_tree(out) == before
    with pytest.raises(InputError, match="not this recipe's dataset"):
        build_lvd(replace(config, random_seed=1), out)


def test_an_input_that_changed_makes_another_dataset(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    import shutil

    pool = shutil.copytree(world / "pool", tmp_path / "pool")
    config = replace(config, pool={"pool": str(pool)})
    assert build_lvd(config, tmp_path / "out")
    (pool / "a/29.jpg").unlink()
    with pytest.raises(InputError, match="made from other inputs"):
        build_lvd(config, tmp_path / "out")


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
    import shutil

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


def count_artifacts(work: Path) -> dict[str, int]:
    names = ("screen", "embed", "embed-copies", "deduplicate", "decontaminate", "cluster", "retrieve", "rebalance")
    folders = [path.name.rpartition("-")[0] for path in work.iterdir() if path.is_dir()]
    return {name: folders.count(name) for name in names}


def test_whatever_changes_upstream_runs_anew_downstream(
    config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from lvd_curate.stages import deduplicate

    out = tmp_path / "out"
    config = replace(
        config,
        deduplicate=replace(config.deduplicate, encoder=config.embed.encoder, threshold=1.0),
        decontaminate=replace(config.decontaminate, threshold=1.0),
        rebalance=replace(config.rebalance, target_size=6, levels=[3, 2]),
    )

    def build(config: BuildConfig) -> dict[str, int]:
        assert build_lvd(config, out)
        shutil.rmtree(out)
        return count_artifacts(tmp_path / "out.work")

    assert set(build(config).values()) == {1}
    faster = replace(config, embed=replace(config.embed, precision="bf16"))
    assert build(faster) == dict.fromkeys(count_artifacts(tmp_path / "out.work"), 2) | {"screen": 1}
    monkeypatch.setattr(deduplicate, "VERSION", deduplicate.VERSION + 1)
    renewed = build(faster)
    assert (renewed["embed"], renewed["deduplicate"], renewed["decontaminate"]) == (2, 3, 3)


def test_a_copy_detection_encoder_adds_what_hashes_miss(config: BuildConfig, world: Path, tmp_path: Path) -> None:
    import shutil

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


class Stop(BaseException):
    """Stands for a kill: nothing in the code may catch it."""


def test_stopped_at_any_rename_it_goes_on_to_the_same_bytes(
    config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    assert build_lvd(config, tmp_path / "whole/out")
    expected = read_tree(tmp_path / "whole/out")
    real = {name: getattr(os, name) for name in ("replace", "rename")}

    def stop_at(number: int) -> None:
        count = itertools.count()

        def rename(name: str, *paths: Any) -> None:
            if next(count) == number:
                raise Stop
            real[name](*paths)

        for name in real:
            monkeypatch.setattr(artifacts.os, name, partial(rename, name))

    for number in itertools.count():
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        stop_at(number)
        try:
            build_lvd(config, out)
            break
        except Stop:
            assert not out.exists()
        monkeypatch.undo()
        assert build_lvd(config, out)
        assert read_tree(out) == expected
    assert number >= 15


KILLED_RUN = """
import os, signal, sys
from lvd_curate.cli import main
real = os.rename
def rename(draft, path):
    if "screen-" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
    real(draft, path)
if __name__ == "__main__":
    os.rename = rename
    main()
"""


@pytest.mark.slow
def test_killed_for_real_and_with_other_workers_the_bytes_are_the_same(
    config: BuildConfig, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "killed.py").write_text(KILLED_RUN)
    sets = [
        f"--{option}={role}={world / folder}"
        for option, role, folder in (
            ("pool", "pool", "pool"),
            ("seeds", "seeds", "seeds"),
            ("exclude", "exclude", "test"),
        )
    ]
    knobs = [f"embed.encoder={config.embed.encoder}", "retrieve.neighbours=1", "execution.device=cpu"]
    command = ["build-lvd", *sets, "--out", str(tmp_path / "out"), *knobs]

    script = [sys.executable, str(tmp_path / "killed.py"), *command, "execution.workers=1"]
    assert subprocess.run(script, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert [path.name.partition("-")[0] for path in (tmp_path / "out.work").glob("*.partial")] == ["screen"]
    finished = subprocess.run(
        [sys.executable, "-m", "lvd_curate", *command, "execution.workers=2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert build_lvd(config, tmp_path / "inline")
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "inline")


def test_an_excluded_image_guards_though_its_copy_in_the_pool_is_unsafe(
    config: BuildConfig, world: Path, tmp_path: Path
) -> None:
    from lvd_curate.copy_detection.hashing import content_id
    from lvd_curate.engine.runner import open_runner
    from lvd_curate.lineage import list_drops
    from lvd_curate.pipeline import Build, load_models

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
