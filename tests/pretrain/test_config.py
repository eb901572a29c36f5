from pathlib import Path

import pytest
import yaml

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.recipes import build_config

RECIPES = Path(__file__).parents[2] / "packages/pretrain/recipes"


def test_words_win_over_the_recipe_and_the_recipe_over_defaults(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 7\noptim: {steps: 5, batch_size: 3}\n")
    config = build_config(recipe, ["optim.steps=90", "optim.warmup=9", "crops.global_scale=[0.2, 0.9]"])
    assert (config.seed, config.optim.batch_size, config.optim.steps) == (7, 3, 90)
    assert config.optim.clip == PretrainConfig().optim.clip
    assert tuple(config.crops.global_scale) == (0.2, 0.9)


def test_resolved_config_reads_back_as_itself(tmp_path):
    config = build_config(None, ["model.arch=vit_small", "augment.blur=[0, 0.9, 0.5]"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert build_config(path, []).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optim.step=3", "optim.steps"),
        ("modle.depth=3", "nearest is .model."),
        ("optim.steps=many", "many"),
        ("model.arch=vit_huge", "vit_large"),
        ("crops.local_size=100", "96"),
        ("optim.batch_size=1", "koleo=0"),
        ("precision=fp64", "bf16"),
        ("teacher.centering=none", "sinkhorn_knopp"),
        ("model.heads=7", "multiple"),
        ("save.every=0", "save.every=0: must lie between 1 and"),
        ("steps", "key=value"),
        ("seed=-1", "seed=-1"),
        ("masks.ratio=[0.1, 1.5]", "masks.ratio=1.5"),
        ("teacher.temperature=[0, 0]", "teacher.temperature=0"),
        ("dino_head.prototypes=0", "dino_head.prototypes=0"),
        ("crops.local_number=-1", "crops.local_number=-1"),
        ("model.patch_size=0", "model.patch_size=0"),
        ("model.attention=flash", "auto, xformers, varlen, sdpa"),
        ("loss.fused=maybe", "auto, true, false"),
        ("optim.steps=100", "optim.warmup=10"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(word, said):
    with pytest.raises(InputError, match=said):
        build_config(None, [word])


def test_only_the_word_that_is_wrong_is_repeated():
    with pytest.raises(
        InputError, match=r"^optim\.stesp=3: unknown key 'optim\.stesp'; the nearest is 'optim\.steps'$"
    ):
        build_config(None, ["seed=1", "optim.stesp=3", "model.depth=3"])
    with pytest.raises(InputError, match=r"^dino_head=\{prototype: 8\}: unknown key 'dino_head\.prototype'"):
        build_config(None, ["seed=1", "dino_head={prototype: 8}"])


def test_missing_or_broken_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        build_config(tmp_path / "nowhere.yaml", [])
    broken = tmp_path / "broken.yaml"
    broken.write_text("optim: {steps: 3\n")
    with pytest.raises(InputError, match=r"broken\.yaml"):
        build_config(broken, [])
    for content in (b"- a\n- b\n", b"\xff\xfe\x00"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"broken\.yaml"):
            build_config(broken, [])


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(recipe):
    assert build_config(recipe, []).optim.steps > 0


@pytest.mark.parametrize("kernel", ["xformers", "varlen"])
def test_a_kernel_of_16_bits_is_refused_in_float32(kernel):
    with pytest.raises(InputError, match="set precision=bf16"):
        build_config(None, ["precision=fp32", f"model.attention={kernel}"])


@pytest.mark.parametrize("word", ["auto", "true", "False"])
def test_fused_is_a_word_or_a_truth_value(word):
    assert build_config(None, [f"loss.fused={word}"]).loss.fused.lower() == word.lower()
