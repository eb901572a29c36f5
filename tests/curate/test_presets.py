import polars as pl
import pytest

from lvd_curate.errors import InputError
from lvd_curate.presets import load_composition, show_composition


def test_the_papers_table_adds_up_to_the_unit() -> None:
    """DINOv2, Table 15: 142,109,386 images, of which the three branches are known."""
    table = load_composition("lvd142m")
    assert table["total"].sum() == 142_109_386
    assert table["as_is"].sum() == 17_211_818
    assert table.filter(pl.col("per_image").is_not_null())["kept"].sum() == 104_107_568
    assert table.filter(pl.col("clusters").is_not_null())["kept"].sum() == 20_790_000
    ade = table.filter(pl.col("seed_set") == "ADE20K train").to_dicts()[0]
    assert (ade["retrieved"], ade["kept"]) == (20_720_000, 1_000_000)


def test_it_is_shown_with_its_total_and_another_name_is_refused() -> None:
    lines = show_composition("lvd142m").splitlines()
    assert lines[-1].endswith("142,109,386")
    assert len(lines) == 27
    with pytest.raises(InputError, match="there is lvd142m"):
        show_composition("lvd1689m")
