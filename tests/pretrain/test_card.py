import yaml

from lvd_pretrain.card import model_card, recipe_of
from lvd_pretrain.recipes import build_config

FACTS = {"dataset": "f00d", "images": 24, "global_batch": 8}


def test_the_card_has_data_recipe_and_curves(tiny):
    card = model_card(tiny("optim.steps=9", "loss.koleo=0"), 7, FACTS, "curves.svg")
    front, body = card.split("---\n", 2)[1:]
    assert yaml.safe_load(front)["library_name"] == "transformers"
    for piece in (
        "f00d",
        "24 images",
        "after 7 of 9 steps",
        "(DINO, iBOT against",
        "![Loss terms over the steps](curves.svg)",
    ):
        assert piece in body
    assert "![" not in model_card(tiny(), 7, FACTS, None)


def test_its_recipe_gives_the_run_again(tiny, tmp_path):
    config = tiny("optim.steps=9")
    path = tmp_path / "recipe.yaml"
    card = model_card(config, 9, FACTS, None)
    path.write_text(card.split("```yaml\n")[1].split("```")[0])
    assert build_config(path, [f"out={config.out}"]) == config
    assert "out" not in recipe_of(config)


def test_where_the_weights_come_from_is_said(tiny):
    assert "started from | `runs/first`" in model_card(tiny("init_from=runs/first"), 1, FACTS, None)
    assert "teacher `runs/big`" in model_card(tiny("distill.teacher=runs/big", "model.drop_path=0"), 1, FACTS, None)
