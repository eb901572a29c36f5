from pathlib import Path

import pytest

from lvd_curate.config import build_config
from lvd_curate.errors import InputError
from lvd_curate.recipes import BuildConfig

SETS = {"pool": {"p": "x"}, "seeds": {"s": "y"}}
WORDS = ["embed.encoder=tiny"]


def test_words_win_over_given_sets_win_over_recipe_wins_over_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("pool: {web: here}\nretrieve: {neighbours: 9, min_hits: 1}\nembed: {encoder: other}\n")
    config = build_config(BuildConfig, recipe, ["retrieve.neighbours=7", *WORDS], SETS)
    assert config.pool == {"web": "here", "p": "x"}
    assert (config.retrieve.neighbours, config.retrieve.min_hits, config.embed.encoder) == (7, 1, "tiny")
    assert config.deduplicate.threshold == 0.60


def test_execution_is_not_content() -> None:
    one = build_config(BuildConfig, None, ["execution.workers=1", *WORDS], SETS)
    two = build_config(BuildConfig, None, ["execution.engine=inline", *WORDS], SETS)
    assert one.content() == two.content()
    assert one != two


def test_names_and_paths_may_hold_dots_commas_and_equal_signs() -> None:
    sets = {"pool": {"v1.2": "a,b=[c]"}, "seeds": {"s": "y"}}
    assert build_config(BuildConfig, None, WORDS, sets).pool == {"v1.2": "a,b=[c]"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deduplicate.treshold=0.7"], "'deduplicate.treshold'; the nearest is 'deduplicate.threshold'"),
        (["rebalanse.target_size=3"], "the nearest is 'rebalance"),
        (["retrieve.neighbours=many"], "retrieve.neighbours"),
        (["retrieve.mode=all"], "one of auto, sample, cluster, both"),
        (["deduplicate.threshold=2"], "a cosine"),
        (["deduplicate.hash_distance=33"], "0 to 32"),
        (["rebalance.levels=[5,5]"], "must fall"),
        (["embed.precision=fp8"], "fp32 or bf16"),
        (["embed=3"], "EmbedConfig"),
        (["random_seed=-1"], "random_seed=-1: 0 to"),
        (["random_seed=2147483632"], "random_seed=2147483632: 0 to 2147483631"),
        (["screen.max_aspect=0.5"], "screen.max_aspect=0.5: at least 1"),
        (["moderate.nsfw_threshold=0.8"], "needs scores: set moderate.nsfw to open_nsfw or onnx:FILE"),
        (["moderate.nsfw=open_nsfw", "moderate.nsfw_threshold=80"], "moderate.nsfw_threshold=80.0: 0 to 1"),
        (["moderate.blur_faces=true"], "needs boxes: set moderate.faces"),
        (["moderate.face_threshold=1"], "moderate.face_threshold=1.0: between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way_out(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.").replace("(", r"\(")):
        build_config(BuildConfig, None, [*WORDS, *words], SETS)


@pytest.mark.parametrize(
    ("sets", "words", "message"),
    [
        ({"seeds": {"s": "y"}}, WORDS, "no pool"),
        ({"pool": {"p": "x"}}, WORDS, "no seeds"),
        (SETS, [], "no encoder"),
    ],
)
def test_a_recipe_without_its_parts_says_which(sets: dict[str, object], words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_config(BuildConfig, None, words, sets)


def test_missing_and_broken_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recipe file at"):
        build_config(BuildConfig, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("pool: [unclosed\n")
    with pytest.raises(InputError, match=r"bad\.yaml"):
        build_config(BuildConfig, tmp_path / "bad.yaml")
    with pytest.raises(InputError, match="no recipe file at"):
        build_config(BuildConfig, tmp_path)
    for text, message in (
        ("- pool\n- seeds\n", "must map knobs"),
        ("42\n", "must map knobs"),
        ("pool: [a]\n", "merge"),
    ):
        (tmp_path / "other.yaml").write_text(text)
        with pytest.raises(InputError, match=rf"other\.yaml.*{message}"):
            build_config(BuildConfig, tmp_path / "other.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"pool: {p: caf\xe9}\n")
    with pytest.raises(InputError, match=r"latin\.yaml is not UTF-8"):
        build_config(BuildConfig, tmp_path / "latin.yaml")
