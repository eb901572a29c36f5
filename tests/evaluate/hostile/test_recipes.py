"""Recipes that others made, and words of the command: nothing in them is run or filled in, no secret is saved."""

import pytest
from tests.hostile_files import HOSTILE_YAML, NO_TEXT, short

RECIPES = HOSTILE_YAML | {
    "python name": "seed: !!python/name:os.system",
    "holds itself": "knn: &a {neighbours: *a}",
    "environment": "data: {name: '${oc.env:HF_TOKEN}'}",
    "interpolation": "seed: ${bootstrap}",
    "login": "data: {name: 'https://user:secret@host/x'}",
    "terminal codes": 'data: {name: "\\e]0;pwned\\a"}',
    "tab": "knn:\n\tneighbours: [5]",
    "dotted key": "knn.temperature: 0.1",
    "infinite": "knn: {temperature: 1e999}",
    "not a number": "data: {crop_ratio: .nan}",
    "negative": "features: {threads: -5}",
    "absurd": "features: {batch_size: 99999999999999999999}",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused(refuse, trace, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPES[name].replace("{trace}", str(trace)))
    line = refuse(recipe)
    assert "secret" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [*NO_TEXT, "name too long"])
def test_a_recipe_that_is_no_text_is_not_waited_for(refuse, tmp_path, kind):
    recipe = tmp_path / ("r" * (300 if kind == "name too long" else 3) + ".yaml")
    if kind in NO_TEXT:
        NO_TEXT[kind](recipe)
    assert str(recipe)[-40:] in refuse(recipe)


@pytest.mark.parametrize(
    "words",
    [
        {"ckpt": "https://user:secret@host/model"},
        {"data": "train=https://user:secret@host/data"},
        {"out": "out\x1b[2J"},
        {"ckpt": "${oc.env:HF_TOKEN}"},
    ],
    ids=short,
)
def test_words_that_would_be_saved_hold_no_secrets(refuse, words):
    assert "secret" not in refuse(**words)


def test_the_results_do_not_replace_a_config_of_another_origin(refuse, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text("preset: clean\n")
    assert "give another --out" in refuse(out=out)
    assert (out / "config.yaml").read_text() == "preset: clean\n"
