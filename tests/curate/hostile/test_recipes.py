"""Recipes and lists of strangers: nothing in them runs, is filled in, or publishes what was not asked for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Draw = Callable[..., Any]
Encode = Callable[..., bytes]
Run = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("pool: {p: '${oc.env:HF_TOKEN}'}", r"pool\.p: \$\{\.\.\.\} is not filled in"),
        ("pool: {'${oc.env:HF_TOKEN}': x}", r"\$\{\.\.\.\} is not filled in"),
        ("pool: {p: 'https://me:pass@localhost/x'}", r"pool\.p: a URL with a login in it would be saved"),
        ("pool: {p: !!python/object/apply:os.mkdir [ran]}", "could not determine a constructor"),
        ("a: &a [*a]", "YAML recursive aliases"),
        ("[" * 3000, "r.yaml: "),
    ],
)
def test_a_recipe_runs_nothing_and_takes_nothing_from_the_environment(
    run_curate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, message: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(recipe + "\n")
    code, said = run_curate("dedup", "r.yaml", "--out=x.parquet")
    assert code == 2
    assert re.search(message, said), said
    assert "hf_secret" not in said
    assert "pass@" not in said
    assert [file.name for file in tmp_path.iterdir()] == ["r.yaml"]


def test_a_list_counts_where_it_is_asked_for_alone(
    run_curate: Run, tmp_path: Path, picture: Draw, jpeg: Encode
) -> None:
    (tmp_path / "mine.jpg").write_bytes(jpeg(picture(0)))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(jpeg(picture(1)))
    (tmp_path / "in/list.txt").write_text("../mine.jpg\n")  # a stranger's, that would publish a file of mine
    found = []
    for number, place in enumerate(("in/*", "in", "in/list.txt", "in/*.txt")):
        out = tmp_path / f"{number}.parquet"
        assert run_curate("dedup", f"--pool=p={tmp_path / place}", f"--out={out}", "execution.engine=inline")[0] == 0
        found.append(pl.read_parquet(out)["path"].to_list())
    assert found == [["a.jpg"], ["a.jpg"], ["../mine.jpg"], ["../mine.jpg"]]
