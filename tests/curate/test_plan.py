"""What a build will need: the numbers follow the inputs, and the plan leaves the build nothing but its listing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lvd_curate.errors import InputError
from lvd_curate.estimates import Encoding, Measured, estimate, hash_cost
from lvd_curate.pipeline import build_lvd
from lvd_curate.plan import plan_build, show_bytes, show_plan, show_seconds
from lvd_curate.recipes import BuildConfig

RESULTS = Path(__file__).parents[2] / "benchmarks/results/curate.jsonl"


def test_a_sample_is_measured_and_the_build_opens_the_listing(config: BuildConfig, tmp_path: Path) -> None:
    plan = plan_build(config, tmp_path / "out.work", sample=16)
    assert plan.measured.counts == {"pool": {"pool": 41}, "seeds": {"seeds": 10}, "exclude": {"exclude": 6}}
    assert plan.measured.semantic.dim == 32
    stages = [cost.stage for cost in plan.costs]
    assert stages == ["ingest", "screen", "embed", "deduplicate", "decontaminate", "cluster", "retrieve", "materialize"]
    assert all(cost.seconds >= 0 and cost.disk >= 0 for cost in plan.costs)
    text = show_plan(plan)
    assert "pool pool: 41 files" in text
    assert text.splitlines()[-1].startswith("together")
    assert {path.name.partition("-")[0] for path in (tmp_path / "out.work").iterdir()} == {"listing", "lock"}
    assert build_lvd(config, tmp_path / "out")


def measured(pool: int) -> Measured:
    return Measured(
        counts={"pool": {"web": pool}, "seeds": {"s": 1000}, "exclude": {}},
        listing_seconds=1.0,
        listing_bytes=40,
        image_bytes=50_000,
        row_bytes=150,
        screened_bytes=400,
        screen_seconds=0.004,
        semantic=Encoding(0.05, 384),
        copies=Encoding(0.02, 512),
        moderate_seconds=0.04,
        product_rate=1e11,
        exact_rate=5e10,
        write_rate=1e9,
        process_bytes=1e9,
    )


def test_time_grows_with_the_pool_and_falls_with_the_workers(config: BuildConfig) -> None:
    config = replace(config, deduplicate=replace(config.deduplicate, encoder="torchscript:sscd.pt"))

    def seconds(pool: int, workers: int) -> dict[str, float]:
        return {cost.stage: cost.seconds for cost in estimate(config, measured(pool), workers, 10**10)}

    one, ten, wide = seconds(10**6, 1), seconds(10**7, 1), seconds(10**7, 8)
    assert one["embed"] == pytest.approx(0.05 * 1_001_000)
    for stage in ("screen", "moderate", "embed", "embed-copies"):
        assert ten[stage] == pytest.approx(10 * one[stage], rel=0.01)
        assert wide[stage] == pytest.approx(ten[stage] / 8)
    assert 10 < ten["deduplicate"] / one["deduplicate"] < 15  # cells of the join grow with the root, hashes hardly
    assert 20 < ten["cluster"] / one["cluster"] < 101  # a cluster per 75 images, up to 100,000


GROWTH = [line for line in map(json.loads, RESULTS.read_text().splitlines()) if line["benchmark"] == "growth_curve"]


@pytest.mark.parametrize("run", GROWTH[0]["runs"][1:], ids=lambda run: f"{run['images']:,}")
def test_the_arithmetic_is_near_what_a_build_took(config: BuildConfig, run: dict[str, Any]) -> None:
    """Processor time of the stages of benchmarks/curate/growth_curve.py, which needs no encoder and no hashes."""
    count, stages = run["images"], run["stages"]
    config = replace(config, deduplicate=replace(config.deduplicate, encoder="embeddings:vectors.npy"))
    vectors = Encoding(stages["embed"]["cpu_seconds"] / count, 128)
    m = replace(
        measured(count),
        counts={"pool": {"web": count}, "seeds": {"s": count // 100}, "exclude": {"t": count // 200}},
        screen_seconds=stages["screen"]["cpu_seconds"] / count,
        semantic=vectors,
        copies=vectors,
        moderate_seconds=None,
        product_rate=1.31e12,  # benchmarks/machine/roofline.py, one thread of that machine, bf16
        exact_rate=2.17e11,
        process_bytes=6e8,  # at 10,000 images, a third of all three
    )
    costs = {cost.stage: cost for cost in estimate(config, m, run["workers"], 4 * 10**9)}
    spent = {stage: run["workers"] * cost.seconds for stage, cost in costs.items()}
    own = m.total("pool", "seeds")
    joined = spent["deduplicate"] - hash_cost("deduplicate", own, own, 0, 1).seconds
    assert 0.8 < joined / stages["search by vectors"]["cpu_seconds"] < 2.5
    lloyd = stages["k-means training"]["cpu_seconds"] + stages["cluster"]["cpu_seconds"]
    assert 0.6 < spent["cluster"] / lloyd < 2
    peak = max(stage.get("peak_mib", 0) for stage in stages.values()) * 2**20
    assert 0.6 < max(cost.memory for cost in costs.values()) / peak < 1.2


def test_the_join_respects_the_memory_allowed(config: BuildConfig) -> None:
    config = replace(config, deduplicate=replace(config.deduplicate, encoder="torchscript:sscd.pt"))
    costs = {cost.stage: cost for cost in estimate(config, measured(10**8), 2, 10**10)}
    assert costs["deduplicate"].memory < 10**10 + (6 * 150 + 48) * 1.01 * 10**8 + 3 * 10**9
    assert costs["embed-copies"].disk == 2 * 512 * (10**8 + 1000)


def test_a_sample_without_an_image_is_said(config: BuildConfig, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/x.jpg").write_bytes(b"no image")
    config = replace(config, pool={"p": str(tmp_path / "pool")}, seeds={"s": str(tmp_path / "pool")}, exclude={})
    with pytest.raises(InputError, match=r"none of the 2 sampled files is a usable image: x\.jpg is not an image"):
        plan_build(config, tmp_path / "out.work", sample=16)


def test_amounts_are_written_for_people() -> None:
    assert [show_bytes(n) for n in (3, 45_000, 1.23e12, 5e15)] == ["3 B", "45.0 kB", "1.2 TB", "5000.0 TB"]
    assert [show_seconds(n) for n in (3, 600, 86400)] == ["3.0 s", "10.0 min", "24.0 h"]
