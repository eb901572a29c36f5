import numpy as np
import polars as pl

from lvd_curate.reporting.charts import BARS, draw_balance, draw_curves, draw_scores, draw_sizes


def test_scores_fall_into_bins_of_a_twentieth() -> None:
    values = [0.12, 0.14, 0.30, 0.951, 1.0, 1.0000001, None]
    bars = draw_scores(pl.LazyFrame({"score": values}), "score")
    assert bars[0] == ("0.10 to 0.15", 2, 2 / 3)
    assert bars[-1] == ("0.95 to 1.00", 3, 1.0)
    assert sum(bar.total for bar in bars) == 6
    assert draw_scores(pl.LazyFrame({"score": [None]}, schema={"score": pl.Float32}), "score") == []


def test_high_scores_get_narrow_bins() -> None:
    bars = draw_scores(pl.LazyFrame({"score": [0.981, 0.985, 0.999]}), "score")
    assert [(bar.label, bar.total) for bar in bars] == [("0.98 to 0.99", 2), ("0.99 to 1.00", 1)]


def test_group_sizes_are_counted_by_doubling() -> None:
    bars = draw_sizes(np.array([1, 1, 2, 2, 2, 3, 4, 5, 9, 16]))
    assert [(bar.label, bar.total) for bar in bars] == [("2", 3), ("3 to 4", 2), ("5 to 8", 1), ("9 to 16", 2)]
    assert max(bar.height for bar in bars) == bars[0].height == 1
    assert draw_sizes(np.array([1, 1])) == []


def test_curves_start_at_the_threshold_used() -> None:
    table = pl.LazyFrame(
        {
            "stage": ["decontaminate", "deduplicate", "deduplicate", "deduplicate"],
            "threshold": [0.45, 1.0, 0.6, 0.8],
            "images": [0, 0, 40, 10],
        }
    )
    deduplicate, decontaminate = draw_curves(table)
    assert [(point.threshold, point.images) for point in deduplicate.points] == [(0.6, 40), (0.8, 10), (1.0, 0)]
    assert [round(point.x, 6) for point in deduplicate.points] == [0, 0.5, 1]
    assert [point.y for point in deduplicate.points] == [1, 0.25, 0]
    assert decontaminate.points == [(0.45, 0, 0.0, 0.0)]


def test_balance_compares_shares_not_counts() -> None:
    clusters = pl.LazyFrame({"id": list("abcdefgh"), "cluster": [5, 5, 5, 5, 5, 5, 2, 2]})
    bars = draw_balance(clusters, pl.LazyFrame({"id": ["a", "g"]}))
    assert [bar.label for bar in bars] == ["cluster 5: 1 of 6 images", "cluster 2: 1 of 2 images"]
    assert [bar.before for bar in bars] == [1, 2 / 6]
    assert [bar.after for bar in bars] == [0.5 / 0.75, 0.5 / 0.75]


def test_many_clusters_are_drawn_in_groups() -> None:
    ids = [str(place) for place in range(1000)]
    bars = draw_balance(pl.LazyFrame({"id": ids, "cluster": range(1000)}), pl.LazyFrame({"id": ids}))
    assert len(bars) == BARS
    assert bars[0].label == "9 clusters: 9 of 9 images"
    assert draw_balance(pl.LazyFrame({"id": [], "cluster": []}), pl.LazyFrame({"id": []})) == []
