import errno
from pathlib import Path

import polars as pl
import pytest

from lvd_curate.columns import SCREENED
from lvd_curate.config import ScreenConfig
from lvd_curate.stages.ingest import list_images
from lvd_curate.stages.screen import find_exact_copies, screen, screen_file, set_aside


def test_every_file_is_a_row_with_a_hash_or_a_reason(world: Path, tmp_path: Path) -> None:
    listing = pl.concat(list_images("pool", "p", str(world / "pool"), tmp_path))
    screened = screen(listing, ScreenConfig())
    assert screened.schema == SCREENED
    reasons = dict(zip(listing["path"], screened["reason"], strict=True))
    assert {path: reason for path, reason in reasons.items() if reason} == {
        "b/cut.jpg": reasons["b/cut.jpg"],
        "b/empty.jpg": "empty file",
        "b/page.jpg": "not an image",
        "b/tiny.png": "too small: 20x20 pixels",
    }
    assert reasons["b/cut.jpg"].startswith("damaged: ")
    good = screened.filter(pl.col("reason").is_null())
    assert good["local_hash"].null_count() == good["thumbnail"].null_count() == 0
    formats = dict(zip(listing["path"], screened["format"], strict=True))
    assert formats["b/mislabelled.jpg"] == "PNG"


def test_a_file_that_vanished_is_a_row_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "nowhere")
    screened = screen(pl.concat(list_images("pool", "p", str(tmp_path), tmp_path)), ScreenConfig())
    assert screened["reason"].to_list() == ["unreadable: No such file or directory"]
    assert screened["id"].to_list() == [None]


def test_an_error_without_a_number_still_has_words() -> None:
    reasons = [screen_file(error, ScreenConfig())[5] for error in (OSError("bad page\nat 7"), OSError())]
    assert reasons == ["unreadable: bad page", "unreadable: OSError"]


def test_the_first_of_equal_files_counts_and_seeds_are_first_when_they_are_in_the_dataset() -> None:
    files = pl.DataFrame(
        {
            "row": range(7),
            "role": ["pool", "pool", "pool", "pool", "seeds", "exclude", "exclude"],
            "id": ["x", "x", None, None, "x", "x", "x"],
        },
        schema_overrides={"id": pl.String},
    )
    assert find_exact_copies(files, seeds_first=True)["copy"].to_list() == [
        True,
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert find_exact_copies(files, seeds_first=False)["copy"].to_list() == [
        False,
        True,
        False,
        False,
        False,
        False,
        True,
    ]


def test_truncated_files_are_dropped_or_kept(world: Path, tmp_path: Path) -> None:
    data = (world / "pool/a/00.jpg").read_bytes()
    cut = data[: len(data) * 2 // 3]
    assert str(screen_file(cut, ScreenConfig())[5]).startswith("damaged: ")
    assert screen_file(cut, ScreenConfig(truncated="keep"))[2:6] == ("JPEG", 96, 72, None)


def test_files_set_aside_have_the_error_as_their_reason() -> None:
    table = set_aside(pl.DataFrame({"path": ["a", "b"]}), "no memory")
    assert table.schema == SCREENED
    assert table["reason"].to_list() == ["set aside: no memory"] * 2


def test_a_failing_mount_is_no_files_fate() -> None:
    knobs = ScreenConfig()
    assert screen_file(OSError(errno.EIO, "Input/output error"), knobs)[5] == "unreadable: Input/output error"
    with pytest.raises(OSError, match="Stale"):
        screen_file(OSError(errno.ESTALE, "Stale file handle"), knobs)
