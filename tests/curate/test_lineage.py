import polars as pl

from lvd_curate.columns import LINEAGE
from lvd_curate.lineage import build_lineage, list_drops, list_duplicates, list_touched, list_unembedded

FILES = pl.DataFrame(
    {
        "id": ["seed", "kept", "kept", "near", "leak", "far", None, "ref"],
        "role": ["seeds", "pool", "pool", "pool", "pool", "pool", "pool", "exclude"],
        "source": ["s", "p", "p", "p", "p", "p", "p", "t"],
        "path": ["s.jpg", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "r.jpg"],
        "reason": [None] * 6 + ["unreadable: gone", None],
        "copy": [False, False, True, False, False, False, False, False],
    },
    schema_overrides={"reason": pl.String},
)
COMPONENTS = pl.DataFrame({"id": ["near", "kept"], "representative": ["kept", "kept"], "score": [0.97, 1.0]})
TOUCHES = pl.DataFrame(
    {
        "id": ["leak", "leak", "near"],
        "exclude_set": ["x", "t", "t"],
        "reference_id": ["q", "ref", "ref"],
        "score": [0.5, 0.9, 0.8],
    }
)


def lineage_of(*, include_seeds: bool = True) -> dict[str, tuple[object, ...]]:
    drops = [
        list_unembedded(FILES.filter(pl.col("id") == "seed"), FILES.filter(pl.col("id") == "seed")),
        list_duplicates(COMPONENTS),
        list_touched(TOUCHES),
        list_drops(FILES.filter(pl.col("id") == "far"), "retrieve", "not like any seed"),
    ]
    table = build_lineage(FILES, drops, pl.Series(["seed", "kept"]), include_seeds=include_seeds)
    assert table.schema == LINEAGE
    assert table["path"].equals(FILES["path"])
    return {row[3]: row[4:8] for row in table.rows()}


def test_every_file_has_one_fate_and_the_first_reason_counts() -> None:
    assert lineage_of() == {
        "s.jpg": ("kept", "materialize", None, None),
        "a.jpg": ("kept", "materialize", None, None),
        "b.jpg": ("dropped", "screen", "exact copy", "kept"),
        "c.jpg": ("dropped", "deduplicate", "near-duplicate", "kept"),
        "d.jpg": ("dropped", "decontaminate", "copy of an image of excluded set t, or of its component", "ref"),
        "e.jpg": ("dropped", "retrieve", "not like any seed", None),
        "f.jpg": ("dropped", "screen", "unreadable: gone", None),
        "r.jpg": ("dropped", "ingest", "excluded set: compared with, never part of the dataset", None),
    }


def test_seeds_that_only_retrieve_are_said_to_be_left_out() -> None:
    without = lineage_of(include_seeds=False)
    assert without["s.jpg"] == ("dropped", "materialize", "seed: left out by materialize.include_seeds", None)
    assert without["a.jpg"][0] == "kept"
