from pathlib import Path

from lvd_curate.reporting.card import copy_mode, size_category, write_card
from lvd_curate.reporting.pages import render


def test_the_card_tells_counts_and_how_copies_were_decided(told: Path) -> None:
    write_card(told)
    card = (told / "README.md").read_text()
    assert card.startswith("---\ntags:\n")
    assert "configs:" not in card  # with it, `datasets` would cache by folder name and card alone
    assert "60 images: 28 seeds as they are and 32 retrieved from a pool of 291 files" in card
    assert "hash-only mode" in card
    assert "| deduplicate | 114 | 146 |" in card
    assert "- `test`: 3 images dropped" in card
    assert "28 faces in 28 of 288 images; they are not blurred" in card


def test_a_card_of_blurred_faces_says_what_the_id_is() -> None:
    counts = {
        "images": {"pool": 0, "seeds": 1},
        "files": {"pool": 1},
        "funnel": {"pool": []},
        "touched": {},
        "moderation": {"scored": 0, "searched": 1, "faces": 2, "with_faces": 1},
    }
    config = {"exclude": {}, "moderate": {"blur_faces": True, "faces": "centerface", "nsfw_threshold": None}}
    view = {"name": "a", "mode": "b", "size": "n<1K", "images": 1, "counts": counts, "config": config}
    card = render("card.md.j2", view)
    assert "sha256 of the original file's bytes, also where faces are blurred" in card
    assert "they are blurred in the dataset" in card
    assert "None was given" in card


def test_copies_are_decided_by_what_the_recipe_names() -> None:
    assert "SSCD" in copy_mode({"deduplicate": {"encoder": "torchscript:SSCD.pt"}})
    assert copy_mode({"deduplicate": {"encoder": None}}).startswith("hash-only")


def test_size_categories_are_the_hubs() -> None:
    sizes = {0: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 142_109_386: "100M<n<1B", 10**10: "100M<n<1B"}
    assert {images: size_category(images) for images in sizes} == sizes
