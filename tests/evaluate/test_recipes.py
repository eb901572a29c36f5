import pytest

from lvd_evaluate.config import EvaluateConfig
from lvd_evaluate.errors import InputError
from lvd_evaluate.recipes import build_benchmark, build_config, require_own_config


def test_words_win_over_the_recipe_and_the_recipe_over_defaults(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\nknn:\n  temperature: 0.1\n")
    config = build_config(recipe, ["knn.temperature=0.2", "knn.neighbours=[5,7]", "data.limit_train=10"])
    assert (config.seed, config.knn.temperature, config.knn.neighbours) == (3, 0.2, (5, 7))
    assert config.data.limit_train == 10
    assert config.linear == EvaluateConfig().linear


def test_defaults_span_the_52_heads_of_the_paper():
    grid = EvaluateConfig().linear
    assert len(grid.learning_rates) * len(grid.layers) * len(grid.avgpool) == 52


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("knn.temprature=1", "the nearest is 'knn.temperature'"),
        ("protocl=clean", "the nearest is 'protocol'"),
        ("linear.batch_size=many", "could not be converted to Integer"),
        ("seed=-1", "seed=-1: 0 or more"),
        ("protocol=fair", "clean, dinov2"),
        ("data.label=image", "both name the column"),
        ("knn.temperature=0", "knn.temperature"),
        ("knn.neighbours=[]", "knn.neighbours"),
        ("linear.holdout=1.5", "linear.holdout"),
        ("linear.layers=[0]", "linear.layers"),
        ("features.precision=int8", "float32, bfloat16"),
        ("data.limit_test=0", "data.limit_test"),
        ("knn.neighbours=[1", "not valid YAML"),
    ],
)
def test_wrong_words_are_named(word, expected):
    with pytest.raises(InputError) as caught:
        build_config(None, [word])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        build_config(tmp_path / "none.yaml", [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- seed\n- 1\n", "holds no settings"),
        (b"3", "holds no settings"),
        (b"data:\n  name: caf\xe9\n", "not UTF-8 text"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_recipe_that_is_no_text_or_no_mapping_is_named(tmp_path, content, expected):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(InputError, match=rf"recipe\.yaml: {expected}"):
        build_config(tmp_path / "recipe.yaml", [])


def test_the_written_config_reads_back(tmp_path):
    import yaml

    config = build_config(None, ["seed=5", "linear.layers=[1]"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert build_config(path, []) == config


BENCHMARK = """
seed: 3
baselines: pixels
knn: {temperature: 0.1}
tasks:
  colours: {data: colours, probes: knn}
  shapes:
    data: [train=a, test=b]
    probes: [knn, linear]
    settings: {knn: {temperature: 0.2}, data: {label: shape}}
"""


def test_a_benchmark_gives_every_task_the_common_settings_its_own_and_the_words(tmp_path):
    recipe = tmp_path / "all.yaml"
    recipe.write_text(BENCHMARK)
    asked = build_benchmark(recipe, ["seed=4", "knn.headline=10"])
    assert (asked.ckpt, asked.baselines) == (None, ["pixels"])
    colours, shapes = asked.assignments
    assert (colours.name, colours.data, colours.probes) == ("colours", ["colours"], ["knn"])
    assert (shapes.name, shapes.data, shapes.probes) == ("shapes", ["train=a", "test=b"], ["knn", "linear"])
    assert (colours.config.knn.temperature, shapes.config.knn.temperature) == (0.1, 0.2)
    assert (colours.config.data.label, shapes.config.data.label) == ("label", "shape")
    assert all(one.config.seed == 4 and one.config.knn.headline == 10 for one in asked.assignments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1", "no tasks"),
        ("tasks: {a: {data: x}}", "task a: needs data"),
        ("tasks: {a: {data: x, probe: knn}}", "unknown key 'probe'"),
        ("tasks: {a: {data: x, probes: knn, settings: {knn: {heat: 1}}}}", "task a: unknown key 'knn.heat'"),
        ("tasks: {a: x}", "a task has data, probes, settings"),
        ("sed: 1\ntasks: {a: {data: x, probes: knn}}", "unknown key 'sed'; the nearest is 'seed'"),
    ],
)
def test_wrong_benchmarks_are_named(tmp_path, text, expected):
    recipe = tmp_path / "all.yaml"
    recipe.write_text(text)
    with pytest.raises(InputError, match=expected):
        build_benchmark(recipe, [])


@pytest.mark.parametrize("content", ["epochs: 5\n", "preset: clean\n", "a: {bootstrap: 9}\nb: null\n"])
def test_a_foreign_config_beside_the_results_is_not_replaced(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match="is not evaluate's: give another --out"):
        require_own_config(tmp_path / "config.yaml")
    for own in ("bootstrap: 9\n", "a: {bootstrap: 9}\nb: {bootstrap: 9}\n"):
        (tmp_path / "config.yaml").write_text(own)
        require_own_config(tmp_path / "config.yaml")
