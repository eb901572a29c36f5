from pathlib import Path

import polars as pl
import pytest

from lvd_curate.errors import InputError
from lvd_curate.reporting.explain import explain_image


def find(told: Path, **wanted: str) -> dict[str, str]:
    """Return the first row of the lineage with these values."""
    rows = pl.read_parquet(told / "lineage.parquet")
    return next(row for row in rows.iter_rows(named=True) if wanted.items() <= row.items())


def test_a_kept_image_names_the_seeds_that_brought_it(told: Path) -> None:
    kept = find(told, status="kept", role="pool", source="web")
    picks = pl.read_parquet(told / "story/picks.parquet").filter(id=kept["id"]).sort("similarity", descending=True)
    story = explain_image(told, kept["path"])
    assert f"file pool web: {kept['path']}" in story
    assert "kept at materialize" in story
    assert f"chosen {len(picks)} time" in story
    best = picks.row(0, named=True)
    seed = find(told, id=best["seed_id"])
    line = next(line for line in story.splitlines() if seed["path"] in line)
    assert f"{best['similarity']:.3f}" in line
    assert f"seed set {best['seed_set']}" in line
    assert best["rank"] is None or f"rank {best['rank']}" in line
    assert "in the dataset: data/train-00000-of-00001.parquet, cluster [" in story
    assert "; rebalancing, finest first: " in story
    assert "score for unsafe content 0." in story


def test_six_digits_of_an_id_are_enough(told: Path) -> None:
    row = find(told, stage="deduplicate")
    assert explain_image(told, row["id"][:6]) == explain_image(told, row["id"]) == explain_image(told, row["path"])


def test_a_copy_names_the_image_that_stands_for_it_and_the_whole_group(told: Path) -> None:
    copy = find(told, stage="deduplicate", path="3/170.jpg")
    story = explain_image(told, "170.jpg")
    assert f"dropped at deduplicate: near-duplicate ({copy['score']:.3f})" in story
    assert f"because of {copy['partner_id'][:16]} pool web: 0/000.jpg" in story
    assert "copies: 12 others; " in story
    assert sum(line.startswith("  ") and "pool web: 3/1" in line for line in story.splitlines()) == 11
    cut = explain_image(told, "1/066.jpg")
    assert "part of a larger group, cut at 0.72" in cut


def test_an_image_that_touches_an_excluded_set_and_the_reference_that_it_touches(told: Path) -> None:
    story = explain_image(told, "4/200.jpg")
    assert "dropped at decontaminate: copy of an image of excluded set test (0.970)" in story
    assert "exclude test: 5/288.jpg (set test, 0.970)" in story
    reference = explain_image(told, "5/289.jpg")
    assert "excluded: 2 images left: they, or copies" in reference
    assert "pool web: 4/201.jpg" in reference
    assert "excluded: nothing in pool and seeds is like it" in explain_image(told, "5/299.jpg")


def test_a_seed_tells_what_it_brought(told: Path) -> None:
    seed = find(told, role="seeds")
    story = explain_image(told, seed["path"])
    assert "as a seed it brought " in story
    assert "copies: none" in story
    assert "  passed screen, moderate, embed, deduplicate, decontaminate\n  kept" in story


def test_all_files_of_equal_bytes_are_told(told: Path) -> None:
    for name in ("again/1.jpg", "0/001.jpg"):
        story = explain_image(told, name)
        assert "file pool web: 0/001.jpg" in story
        assert "file pool web: again/1.jpg\n  dropped at screen: exact copy (1.000)" in story


def test_several_matches_are_listed_not_guessed(told: Path) -> None:
    ends = explain_image(told, "00.jpg").splitlines()
    assert ends[0] == "3 files are named '00.jpg'; say more of the path, or an id:"
    assert [line.partition("pool web: ")[2] for line in ends[1:]] == ["0/000.jpg", "2/100.jpg", "4/200.jpg"]
    whole = explain_image(told, "2.jpg")  # whole names win over mere ends such as 0/002.jpg
    assert whole.startswith("2 files")
    assert "(unreadable)      pool web: broken/2.jpg" in whole
    many = explain_image(told, "jpg").splitlines()
    assert len(many) == 22
    assert many[-1] == "  and 311 more"


def test_a_file_that_could_not_be_read(told: Path) -> None:
    story = explain_image(told, "broken/a0.jpg")
    assert "id (none: no byte could be read)" in story
    assert "dropped at screen: empty file" in story


def test_a_path_of_the_file_system_is_known_by_its_end(told: Path) -> None:
    assert explain_image(told, "/mnt/images/web/4/203.jpg") == explain_image(told, "4/203.jpg")


def test_an_unknown_name_is_one_line_with_the_nearest_paths(told: Path) -> None:
    with pytest.raises(InputError, match=r"'x/203\.jpeg'.*near to it: 4/203\.jpg"):
        explain_image(told, "x/203.jpeg")
    with pytest.raises(InputError, match=r"near to it: 4/2.*\.jpg"):
        explain_image(told, "4/2O3.jpg")
    with pytest.raises(InputError, match="six digits"):
        explain_image(told, "zzzzzzzzzzz")
    with pytest.raises(InputError, match="six digits"):
        explain_image(told, "0123456789abcdef")


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no lineage\.parquet"):
        explain_image(tmp_path, "x")
