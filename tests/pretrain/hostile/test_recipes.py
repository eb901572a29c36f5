"""Recipes that others made, and words of the command: nothing in them is run or filled in, no secret is saved."""

import pytest
from tests.hostile_files import HOSTILE_YAML, NO_TEXT

from lvd_pretrain.card import model_card

RECIPES = HOSTILE_YAML | {
    "holds itself": "data: &a {paths: *a}",
    "environment": "data: {path: '${oc.env:HF_TOKEN}'}",
    "login": "data: {path: 'https://user:secret@host/x.tar', streaming: true}",
    "terminal codes": 'out: "\\e]0;pwned\\a"',
    "tab": "optim:\n\tsteps: 5",
    "dotted key": "optim.steps: 5",
    "infinite": "optim: {base_lr: 1e999}",
    "not a number": "optim: {clip: .nan}",
    "negative": "optim: {steps: -5}",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused(refuse, trace, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPES[name].replace("{trace}", str(trace)))
    assert "secret" not in refuse(recipe=recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", NO_TEXT)
def test_a_recipe_that_is_no_text_is_not_waited_for(refuse, tmp_path, kind):
    recipe = tmp_path / "recipe.yaml"
    NO_TEXT[kind](recipe)
    assert str(recipe) in refuse(recipe=recipe)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "model"])
def test_a_run_does_not_replace_what_is_not_its_own(refuse, tmp_path, name):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("mine: 1\n")
    assert "give another out=" in refuse(f"out={out}", "trackers=[]")
    assert (out / name).read_text() == "mine: 1\n"


def test_a_model_card_shows_names_and_obeys_none(tiny_at, tmp_path):
    out = tmp_path / "<img src=x onerror=alert(1)> ![x](http:host)"
    config = tiny_at(out, 'data.path="a | `b` ``` <script>"', 'init_from="c ``` | d"')
    card = model_card(config, 1, {"dataset": "d", "images": 1, "global_batch": 4}, None)
    assert r"# \<img src=x onerror=alert(1)\> \!\[x\](http:host)" in card
    assert r"| ```` a \| `b` ``` <script> ````, 1 images" in card
    assert card.count("\n````yaml\n") == card.count("\n````\n") == 1  # longer than any run of marks inside
