from pathlib import Path

import pytest

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.presets import PRESETS
from lvd_pretrain.recipes import RECIPES, build_config, find_recipe


def differing(tree, other, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from differing(value, other[key], f"{prefix}{key}.")
        elif value != other[key]:
            yield prefix + key


def test_clean_is_the_defaults_and_the_released_one_differs_where_it_says():
    clean, released = build_config(None, []), build_config(None, ["preset=dinov2-released"])
    assert clean.to_dict() == PretrainConfig().to_dict()
    changed = set(differing(released.to_dict(), clean.to_dict()))
    assert changed == {"preset", "augment.blur", "model.pos_embed_offset", "model.pos_embed_antialias"}
    assert tuple(released.augment.blur) == (0.0, 0.9, 0.5)
    assert released.model.pos_embed_offset == 0.1


def test_presets_name_the_same_settings():
    keys = {name: {(part, key) for part in tree for key in tree[part]} for name, tree in PRESETS.items()}
    assert keys["clean"] == keys["dinov2-released"]


def test_recipe_and_words_win_over_the_preset_and_words_choose_it(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: dinov2-released\nmodel: {pos_embed_offset: 0.0}\n")
    config = build_config(recipe, ["augment.blur=[0.5, 0.5, 0.5]"])
    assert (config.model.pos_embed_offset, config.model.pos_embed_antialias) == (0.0, False)
    assert tuple(config.augment.blur) == (0.5, 0.5, 0.5)
    assert tuple(build_config(recipe, ["preset=clean"]).augment.blur) == (1.0, 0.1, 0.5)
    with pytest.raises(InputError, match=r"preset=dino.*clean"):
        build_config(None, ["preset=dino"])


def test_recipes_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("vits14") == find_recipe("lvd:vits14") == RECIPES / "vits14.yaml"
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    assert find_recipe("mine.yaml") == Path("mine.yaml")
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file.*vitl14"):
        find_recipe("nowhere.yaml")


def test_the_folder_readers_know_is_the_one_that_is_installed():
    folder = Path(__file__).parents[2] / "packages/pretrain/recipes"
    assert folder.resolve() == RECIPES.resolve()
    assert (folder / "tiny.yaml").is_file()
