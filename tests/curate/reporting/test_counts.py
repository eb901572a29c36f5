from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from lvd_curate.reporting.counts import count_curves, count_everything, count_funnel, effective_number
from lvd_curate.reporting.story import open_story


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_the_effective_number_is_exp_of_entropy(sizes: list[int]) -> None:
    assert effective_number(np.array(sizes)) == pytest.approx(np.exp(entropy(sizes)), abs=0.006)
    assert 1 <= effective_number(np.array(sizes)) <= len(sizes)


def test_equal_clusters_all_count_and_none_is_nothing() -> None:
    assert effective_number(np.full(7, 3)) == 7
    assert effective_number(np.array([], dtype=np.int64)) == 0


def test_the_funnel_ends_with_what_is_kept() -> None:
    verdicts = pl.DataFrame(
        {
            "stage": ["screen", "retrieve", "materialize"],
            "status": ["dropped", "dropped", "kept"],
            "files": [3, 2, 5],
        }
    )
    steps = {step["stage"]: (step["dropped"], step["left"]) for step in count_funnel(verdicts)}
    assert steps["screen"] == (3, 7)
    assert steps["decontaminate"] == (0, 7)
    assert steps["retrieve"] == (2, 5)
    assert steps["materialize"] == (0, 5)


def test_counts_agree_with_the_tables(told: Path) -> None:
    lineage = pl.read_parquet(told / "lineage.parquet")
    tables = {name: pl.read_parquet(told / f"story/{name}.parquet") for name in ("components", "picks", "clusters")}
    counts = count_everything(lineage.drop("path"), open_story(told))
    assert counts == count_everything(pl.scan_parquet(told / "lineage.parquet"), open_story(told))
    assert counts["files"] == {"pool": 291, "seeds": 28, "exclude": 12}
    kept = lineage.filter(status="kept")
    assert counts["images"] == {"pool": kept.filter(role="pool").height, "seeds": 28}
    assert counts["funnel"]["pool"][-1]["left"] == counts["images"]["pool"]
    assert sum(row["files"] for row in counts["sets"]) == lineage.height
    assert sum(row["files"] for row in counts["reasons"]) == lineage.filter(role="pool", status="dropped").height
    assert (counts["duplicate_groups"], counts["largest_group"]) == (52, 13)
    assert counts["cut"] == {"images": 2, "parts": 1}
    picks = tables["picks"]
    by_set = picks.filter(seed_set="objects", mode="sample")
    row = next(row for row in counts["retrieved"] if (row["seed_set"], row["mode"]) == ("objects", "sample"))
    assert (row["seeds"], row["picks"], row["images"]) == (18, 72, by_set["id"].n_unique())
    assert row["mean_similarity"] == pytest.approx(by_set["similarity"].mean(), abs=1e-4)
    several = picks.group_by("id").agg(pl.col("seed_id").n_unique())["seed_id"]
    assert counts["chosen"]["by_several_seeds"] == (several > 1).sum()
    sizes = tables["clusters"].join(kept, on="id", how="semi")["cluster"].value_counts()["count"].to_numpy()
    assert counts["effective_clusters"]["dataset"] == effective_number(sizes)
    assert [level["clusters"] for level in counts["levels"]] == sorted(
        (level["clusters"] for level in counts["levels"]), reverse=True
    )
    assert counts["moderation"]["scored"] == 288


def test_curves_count_what_each_threshold_would_drop() -> None:
    components = pl.DataFrame(
        {
            "id": ["a", "b", "c", "d", "seed"],
            "representative": ["a", "a", "a", "d", "seed"],
            "fall": [None, 0.9, 0.7, None, 0.95],  # the seed joins another, yet stands for itself
        },
        schema_overrides={"fall": pl.Float32},
    )
    touches = pl.DataFrame({"id": ["d", "d"], "score": [0.5, 0.8]}, schema_overrides={"score": pl.Float32})
    curves = count_curves(components, touches)
    at = {(stage, threshold): images for stage, threshold, images in curves.rows()}
    assert [at["deduplicate", bar] for bar in (0.69, 0.7, 0.89, 0.9, 1.0)] == [2, 1, 1, 0, 0]
    assert [at["decontaminate", bar] for bar in (0.79, 0.8, 1.0)] == [1, 0, 0]
    assert count_curves(components.head(1), touches.head(0)).is_empty()
