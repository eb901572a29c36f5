import re
from pathlib import Path

import polars as pl

from lvd_curate.config import BuildConfig, EmbedConfig
from lvd_curate.report import count_funnel, gather_groups, gather_retrieved, render, size_category

EVIL = "<script>alert(1)</script>"


def counts() -> dict[str, object]:
    return {
        "files": {"pool": 1000, "seeds": 1, "exclude": 0},
        "images": {"pool": 0, "seeds": 1},
        "funnel": {"pool": [{"stage": "screen", "dropped": 1000, "left": 0}], "seeds": []},
        "reasons": [{"stage": "screen", "reason": EVIL, "files": 1000}],
        "duplicate_groups": 0,
        "largest_group": 1,
        "touched": {},
        "retrieved": [],
        "effective_clusters": {"dataset": 1.0},
        "clusters": 1,
    }


def view() -> dict[str, object]:
    config = BuildConfig(pool={EVIL: "x"}, seeds={"s": "y"}, embed=EmbedConfig(encoder=EVIL)).content()
    pictures = {"retrieved": [], "groups": [], "previews": {}, "paths": {}, "bars": [], "tallest": 1}
    return {"name": EVIL, "mode": "hash-only mode", "config": config, "counts": counts(), "size": "n<1K", **pictures}


def test_nothing_from_the_data_becomes_markup_and_nothing_is_fetched() -> None:
    page = render("report.html.j2", view())
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<(script|link|iframe)|(src|href)=\"(?!data:)", page)


def test_a_page_and_a_card_without_anything_to_show() -> None:
    page = render("report.html.j2", view())
    for words in ("Nothing was retrieved", "No two images are near-duplicates", "None was given"):
        assert words in page
    card = render("card.md.j2", view())
    assert card.startswith("---\ntags:\n")
    assert "configs:" not in card  # with it, `datasets` would cache by folder name and card alone
    assert "None was given" in card


def test_the_funnel_ends_with_what_is_kept() -> None:
    lineage = pl.DataFrame({"stage": ["screen", "retrieve", "materialize"], "status": ["dropped", "dropped", "kept"]})
    steps = {step["stage"]: (step["dropped"], step["left"]) for step in count_funnel(lineage)}
    assert steps["screen"] == (1, 2)
    assert steps["decontaminate"] == (0, 2)
    assert steps["retrieve"] == (1, 1)
    assert steps["materialize"] == (0, 1)


def test_galleries_show_the_largest_groups_and_every_seed_set() -> None:
    components = pl.DataFrame(
        {
            "id": list("abcdef"),
            "component": [0, 0, 0, 3, 4, 4],
            "representative": list("aaadee"),
            "score": [1.0, 0.9, 0.95, 1.0, 1.0, 0.99],
        }
    )
    groups = gather_groups(components)
    assert [group["head"] for group in groups] == [{"id": "a", "note": "3 images"}, {"id": "e", "note": "2 images"}]
    assert [member["id"] for member in groups[0]["members"]] == ["c", "b"]
    picks = pl.DataFrame(
        {"id": ["x", "y", "x"], "seed_set": ["s", "s", "t"], "seed_id": ["1", "1", "2"], "similarity": [0.5, 0.7, 0.6]}
    )
    rows = gather_retrieved(picks)
    assert {row["head"]["note"] for row in rows} == {"s", "t"}
    assert [member["note"] for member in rows[0]["members"]] == ["0.70", "0.50"]


def test_size_categories_are_the_hubs() -> None:
    sizes = {0: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 142_109_386: "100M<n<1B", 10**10: "100M<n<1B"}
    assert {images: size_category(images) for images in sizes} == sizes


def test_templates_are_part_of_the_package() -> None:
    import lvd_curate

    folder = Path(str(lvd_curate.__file__)).parent / "templates"
    assert {file.name for file in folder.iterdir()} == {"card.md.j2", "report.html.j2"}
