import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from lvd_curate.columns import LINEAGE, PICKS
from lvd_curate.config import EmbedConfig
from lvd_curate.errors import InputError
from lvd_curate.recipes import BuildConfig
from lvd_curate.reporting.card import write_card
from lvd_curate.reporting.report import LISTED, list_failed, list_lineage, write_report
from lvd_curate.reporting.story import CLUSTERS, COMPONENTS, TOUCHES

RECIPE = BuildConfig(pool={"web": "x"}, seeds={"mine": "y"}, embed=EmbedConfig(encoder="z"))


@pytest.fixture(scope="module")
def page(told: Path) -> str:
    write_report(told)
    return (told / "report.html").read_text()


@pytest.fixture
def one_image(tmp_path: Path, dataset_writer: Callable[..., Path]) -> Path:
    """A seed is the whole dataset; no pool image was retrieved, none is a copy, nothing was excluded."""
    one = "a" * 64
    lineage = [(one, "seeds", "mine", "1.jpg", "kept", "materialize", None, None, None)]
    tables = {
        "lineage": pl.DataFrame(lineage, schema=LINEAGE, orient="row"),
        "components": pl.DataFrame([(one, 0, one, 1.0)], schema=COMPONENTS, orient="row"),
        "touches": TOUCHES.to_frame(),
        "clusters": CLUSTERS.to_frame(),
        "picks": PICKS.to_frame(),
        "rows": pl.DataFrame({"id": [one], "cluster": [[0]]}, schema_overrides={"cluster": pl.List(pl.Int32)}),
    }
    return dataset_writer(tmp_path / "one", tables, RECIPE)


def test_nothing_from_the_data_becomes_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in page  # as a file name and as a set's name
    assert "<i>model" not in page
    assert "<b>bold" not in page
    assert page.count("<script") == page.count("</script") == 2  # the rows and the search, nothing that came in
    rows = re.search(r'<script type="application/json" id="rows">(.*?)</script>', page)
    assert rows is not None
    paths = [row[1] for row in json.loads(rows[1])["rows"]]
    assert "<script>alert(1)</script>.jpg" in paths


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert not re.search(r"<(link|iframe|object)\b", page)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "http:" not in page
    assert "https" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_every_chapter_is_filled(page: str) -> None:
    for words in (
        "The 50 largest groups",
        "part of a larger one, cut at 0.72",
        "Dropped by deduplicate at each threshold",
        "objects, per seed image",
        "objects, per cluster",
        "birds, per seed image",
        "Worst neighbours",
        "Best neighbours",
        "rebalancing, level 2",
        "images from 0.8 on were dropped",
        "broken/0.jpg",
    ):
        assert words in page
    assert page.count("<svg") == 6 + 1  # two curves, four histograms, the balance
    assert page.count('class="none"') > 0  # one image has no preview: its name stands there


def test_the_same_dataset_gives_the_same_page(told: Path, page: str) -> None:
    write_report(told)
    assert (told / "report.html").read_text() == page


def test_one_image_without_copies_or_picks(one_image: Path) -> None:
    write_report(one_image)
    page = (one_image / "report.html").read_text()
    for words in ("Nothing was retrieved", "No two images are near-duplicates", "None was given", "All 1 files"):
        assert words in page
    write_card(one_image)
    card = (one_image / "README.md").read_text()
    assert card.startswith("---\ntags:\n")
    assert "configs:" not in card  # with it, `datasets` would cache by folder name and card alone
    assert "1 images: 1 seeds as they are and 0 retrieved" in card


def test_a_long_lineage_is_shown_by_its_beginnings() -> None:
    count = LISTED * 2
    table = pl.DataFrame(
        {
            "id": [f"{row:064x}" for row in range(count)],
            "role": ["pool"] * (count - 1) + ["exclude"],
            "status": ["kept", *["dropped"] * (count - 1)],
            **{name: [None] * count for name in ("source", "path", "stage", "reason", "partner_id", "score")},
        }
    )
    listed = list_lineage(table.lazy().cast(dict(LINEAGE)))
    assert listed["total"] == count
    assert listed["count"] == LISTED // 5 + 2
    assert listed["rows"][0][-1] == "0" * 16
    assert listed["rows"][-1][-1] == f"{count - 1:064x}"[:16]


def test_unusable_files_are_counted_by_reason_with_an_example(told: Path) -> None:
    failed = list_failed(pl.scan_parquet(told / "lineage.parquet"))
    assert [(row["reason"], row["files"], row["example"]) for row in failed] == [
        ("damaged", 14, "broken/b0.jpg"),
        ("empty file", 7, "broken/a0.jpg"),
        ("not an image", 7, "broken/0.jpg"),
    ]


@pytest.mark.parametrize("missing", ["provenance.json", "lineage.parquet", "story/picks.parquet"])
def test_a_folder_that_is_no_dataset(missing: str, one_image: Path) -> None:
    (one_image / missing).unlink()
    with pytest.raises(InputError, match=Path(missing).name):
        write_report(one_image)
