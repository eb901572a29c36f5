from pathlib import Path

import polars as pl
import pytest

from lvd_curate.columns import DROPS, LINEAGE, LISTING, MODERATED
from lvd_curate.config import ModerateConfig
from lvd_curate.engine import catalogue
from lvd_curate.engine.catalogue import store_listing
from lvd_curate.lineage import (
    build_lineage,
    list_drops,
    list_duplicates,
    list_touched,
    list_unembedded,
    list_unsafe,
    write_lineage,
)

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
    assert table.schema == {name: kind for name, kind in LINEAGE.items() if name != "path"}
    return dict(zip(FILES["path"], (row[3:7] for row in table.rows()), strict=True))


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


def test_it_is_written_shard_by_shard_with_its_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "RAMP", ((1, 3),))
    unknown = [pl.lit(None, kind).alias(name) for name, kind in LISTING.items() if name not in FILES.columns]
    listing = store_listing([FILES.with_columns(unknown).select(LISTING.names())], tmp_path)
    table = build_lineage(
        FILES, [DROPS.to_frame()], pl.Series(["seed", "kept", "near", "leak", "far"]), include_seeds=True
    )
    write_lineage(table, catalogue.Catalogue((listing,)), tmp_path / "lineage.parquet")
    written = pl.read_parquet(tmp_path / "lineage.parquet")
    assert written.schema == LINEAGE
    assert written["path"].equals(FILES["path"])
    assert written.drop("path").equals(table)


def test_images_that_no_model_could_look_at_are_not_taken_for_safe() -> None:
    face = [{"left": 0.1, "top": 0.1, "width": 0.2, "height": 0.2, "score": 0.9}]
    rows = [("safe", 0.1, []), ("unsafe", 0.9, []), ("unseen", None, None), ("face", 0.2, face)]
    moderated = pl.DataFrame(rows, schema=MODERATED, orient="row")
    both = ModerateConfig(nsfw="open_nsfw", nsfw_threshold=0.8, faces="centerface", blur_faces=True)
    assert set(list_unsafe(moderated, both)["id"]) == {"unsafe", "unseen"}
    scores_only = ModerateConfig(nsfw="open_nsfw")
    assert list_unsafe(moderated, scores_only)["id"].to_list() == ["unseen"]
