"""The listing on disk: shards of growing size, pieces of them, equal content under an equal name."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvd_curate.columns import LISTING
from lvd_curate.engine import catalogue
from lvd_curate.engine.artifacts import ArtifactStore
from lvd_curate.engine.catalogue import Catalogue, store_listing


def listed(count: int, start: int = 0) -> pl.DataFrame:
    rows = pl.DataFrame({"path": [f"{n:06d}.jpg" for n in range(start, start + count)]})
    return rows.with_columns(pl.lit(None, kind).alias(name) for name, kind in LISTING.items() if name != "path").select(
        LISTING.names()
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "RAMP", ((2, 3),))
    monkeypatch.setattr(catalogue, "FULL", 5)


@pytest.mark.usefixtures("small")
def test_shards_do_not_depend_on_how_the_rows_came(tmp_path_factory: pytest.TempPathFactory) -> None:
    names = set()
    for size in (1, 4, 13, 50):
        folder = tmp_path_factory.mktemp("work")
        frames = (listed(min(size, 13 - start), start) for start in range(0, 13, size))
        listing = store_listing(frames, folder)
        assert Catalogue((listing,)).counts() == [3, 3, 5, 2]
        assert Catalogue((listing,)).table(["path"])["path"].equals(listed(13)["path"])
        names.add(listing.path.name)
        again = store_listing([listed(13)], folder)
        assert again == listing
        assert [path.name for path in folder.iterdir()] == [listing.path.name]
    assert len(names) == 1
    assert store_listing([listed(12)], folder).path.name not in names


@pytest.mark.usefixtures("small")
def test_pieces_hold_the_rows_that_were_asked_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    listing = Catalogue((store_listing([listed(13)], tmp_path_factory.mktemp("work")),))

    @given(st.sets(st.integers(0, 12)))
    def check(chosen: set[int]) -> None:
        rows = np.array(sorted(chosen), dtype=np.int64)
        pieces = listing.pieces(rows)
        assert all(len(piece) == len(piece.load()) > 0 for piece in pieces)
        assert [path for piece in pieces for path in piece.load()["path"]] == [f"{n:06d}.jpg" for n in rows]

    check()
    assert [len(piece) for piece in listing.pieces()] == [3, 3, 5, 2]
    assert str(listing.pieces(np.array([1, 5]))[0]) == "000001.jpg to 000001.jpg"


def test_small_jobs_have_several_shards_and_large_ones_few() -> None:
    sizes = [catalogue.shard_rows(number) for number in range(40)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 256
    assert sizes[-1] == 8192


def test_an_empty_work_folder_is_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("work") / "deep")
    assert store_listing([listed(1)], store.folder).path.parent == store.folder
