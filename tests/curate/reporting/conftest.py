"""A dataset's story, written without a build: everything in it that a report can show."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lvd_curate.columns import LINEAGE, MODERATED, PICKS
from lvd_curate.config import EmbedConfig, ModerateConfig, RebalanceConfig
from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.engine.artifacts import write_table
from lvd_curate.inputs.images import encode_preview
from lvd_curate.recipes import BuildConfig
from lvd_curate.reporting.counts import count_everything
from lvd_curate.reporting.story import BALANCED, CLUSTERS, COMPONENTS, CURVES, FOLDER, PREVIEWS, TOUCHES, open_story

HOSTILE = "<script>alert(1)</script>.jpg"


def write_dataset(folder: Path, tables: dict[str, pl.DataFrame], config: BuildConfig) -> Path:
    """Write the story, lineage and provenance of a dataset as a build leaves them; no images."""
    for name in ("data", FOLDER):
        (folder / name).mkdir(parents=True)
    for name, table in tables.items():
        if name == "lineage":
            write_table(table, folder / "lineage.parquet")
        elif name == "rows":
            write_table(table, folder / "data/train-00000-of-00001.parquet")
        else:
            write_table(table, folder / FOLDER / f"{name}.parquet")
    counts = count_everything(tables["lineage"], open_story(folder))
    said = {"fingerprint": "f" * 64, "config": config.content(), "encoders": {}, "counts": counts, "versions": {}}
    (folder / "provenance.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., Path]:
    return write_dataset


@pytest.fixture(scope="session")
def told(
    tmp_path_factory: pytest.TempPathFactory, picture: Callable[..., Image.Image], jpeg: Callable[..., bytes]
) -> Path:
    """A dataset's folder with a story of some 330 files, everything in it that a report can show, but no images."""
    draw = np.random.default_rng(0)
    data = {seed: jpeg(picture(seed)) for seed in range(300)}  # 260 of the pool, 28 seeds, 12 excluded
    ids = {seed: content_id(value) for seed, value in data.items()}
    pool, seeds, excluded = range(260), range(260, 288), range(288, 300)

    components = [(ids[s], s, ids[s], 1.0, None) for s in [*pool, *seeds]]
    stands_for = {}  # copy -> representative
    for group in range(52):
        for copy in range(60 + 2 * group, 62 + 2 * group) if group else range(164, 176):
            stands_for[copy] = group
    for copy, group in stands_for.items():
        score = round(float(draw.uniform(0.62, 1.0)), 3)
        components[copy] = (ids[copy], group, ids[group], score, 0.72 if group == 3 else None)
    touched = {200: (288, 0.97), 201: (289, 0.51), 202: (289, 0.51), 203: (290, 0.88)}
    touches = [(ids[s], "test" if r < 290 else HOSTILE, ids[r], score) for s, (r, score) in touched.items()]
    clean = [s for s in pool if s not in stands_for and s not in touched]
    cluster = {s: int(min(14, draw.geometric(0.25) - 1)) for s in [*clean, *seeds]}
    picks = []
    for place, seed in enumerate(seeds):
        name = "objects" if place < 18 else "birds"
        best = sorted(clean[:60], key=lambda s: draw.random())[:4]
        for rank, (s, value) in enumerate(zip(best, sorted(draw.uniform(0.3, 0.95, 4))[::-1], strict=True), 1):
            picks.append((ids[s], name, "sample", ids[seed], rank, value))
    for s in clean[50:70]:
        picks.append((ids[s], "objects", "cluster", ids[seeds[s % 18]], None, draw.uniform(0.2, 0.9)))
    chosen = [s for s in clean if ids[s] in {pick[0] for pick in picks}]
    kept = chosen[::2]

    def verdict(s: int) -> tuple[str, str, str | None, str | None, float | None]:
        if s in stands_for:
            return "dropped", "deduplicate", "near-duplicate", ids[stands_for[s]], components[s][3]
        if s in touched:
            reference, score = touched[s]
            return "dropped", "decontaminate", "copy of an image of excluded set test", ids[reference], score
        if s in seeds or s in kept:
            return "kept", "materialize", None, None, None
        if s in excluded:
            return "dropped", "ingest", "excluded set: compared with, never part of the dataset", None, None
        reason = "over its cluster's share" if s in chosen else "not like any seed"
        return "dropped", "rebalance" if s in chosen else "retrieve", reason, None, None

    sets = {**dict.fromkeys(pool, ("pool", "web")), **dict.fromkeys(excluded, ("exclude", "test"))}
    sets |= {s: ("seeds", "objects" if s < 278 else "birds") for s in seeds}
    names = {s: f"{s // 50}/{s:03d}.jpg" for s in data} | {5: HOSTILE}
    lineage = [(ids[s], *sets[s], names[s], *verdict(s)) for s in data]
    broken = [("", "not an image"), ("a", "empty file"), ("b", "damaged: </script><b>bold</b>"), ("c", "damaged: cut")]
    lineage += [
        (None, "pool", "web", f"broken/{name}{place}.jpg", "dropped", "screen", reason, None, None)
        for place in range(7)
        for name, reason in broken
    ]
    lineage += [
        (ids[s], "pool", "web", f"again/{s}.jpg", "dropped", "screen", "exact copy", ids[s], 1.0) for s in range(3)
    ]
    curves = [
        (stage, 0.4 + 0.05 * step, int(120 * (1 - step / 12) ** 2))
        for stage in ("deduplicate", "decontaminate")
        for step in range(13)
    ]
    face = {"left": 0.1, "top": 0.1, "width": 0.2, "height": 0.3, "score": 0.9}
    moderated = [(ids[s], float(draw.beta(1, 6)), [face] * int(draw.random() < 0.1)) for s in [*pool, *seeds]]
    balanced = [(ids[s], [cluster[s], cluster[s] // 4], s in kept) for s in chosen]
    rows = [(ids[s], [cluster[s], cluster[s], cluster[s] // 4]) for s in kept]
    rows += [(ids[s], [cluster[s]]) for s in seeds]
    tables = {
        "lineage": pl.DataFrame(lineage, schema=LINEAGE, orient="row"),
        "components": pl.DataFrame(components, schema={**COMPONENTS, "cut": pl.Float32}, orient="row"),
        "touches": pl.DataFrame(touches, schema=TOUCHES, orient="row"),
        "clusters": pl.DataFrame([(ids[s], c) for s, c in cluster.items()], schema=CLUSTERS, orient="row"),
        "picks": pl.DataFrame(picks, schema=PICKS, orient="row"),
        "moderation": pl.DataFrame(moderated, schema=MODERATED, orient="row"),
        "curves": pl.DataFrame(curves, schema=CURVES, orient="row"),
        "balanced": pl.DataFrame(balanced, schema=BALANCED, orient="row"),
        "previews": pl.DataFrame(
            [(ids[s], encode_preview(data[s], 96)) for s in data if s != 7], schema=PREVIEWS, orient="row"
        ),
        "rows": pl.DataFrame(rows, schema={"id": pl.String, "cluster": pl.List(pl.Int32)}, orient="row").sort("id"),
    }
    config = BuildConfig(
        pool={"web": "in/pool"},
        seeds={"objects": "in/seeds", "birds": "in/birds"},
        exclude={"test": "in/test", HOSTILE: "in/hostile"},
        embed=EmbedConfig(encoder="</script><i>model</i>"),
        moderate=ModerateConfig(nsfw="open_nsfw", nsfw_threshold=0.8, faces="centerface"),
        rebalance=RebalanceConfig(target_size=len(kept)),
    )
    return write_dataset(tmp_path_factory.mktemp("told") / "dataset", tables, config)
