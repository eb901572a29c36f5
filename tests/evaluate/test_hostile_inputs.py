"""What others made may be wrong or made to do harm: one line and exit code 2, nothing run, nothing lost.

docs/threats.md promises what is tested here.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lvd_evaluate import cli

TITLE = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"
CODES = "\x1b]0;pwned\x07\x1b[2J\u202e\udcff"
FAST = ["bootstrap=50", "knn.neighbours=[3]"]


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def short(value: object) -> str:
    return repr(value)[:16]


@pytest.fixture
def trace(tmp_path):
    """A file that must not be there when the test ends: whoever unpickled what is hostile made it."""
    path = tmp_path / "unpickled"
    yield path
    assert not path.exists(), "code from an input was run"


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("report", folder)`: exit code, stdout and stderr of evaluate in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        for text in printed:
            assert "\x1b" not in text
            assert "Traceback" not in text
        return int(stopped.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def refuse(call, corpus, run_folder, tmp_path):
    """`refuse(ckpt=..., data=...)`: the one error line of evaluate knn."""

    def run(*words: object, ckpt: object = run_folder, data: object = corpus, out: object = None) -> str:
        code, _, told = call("knn", "--ckpt", ckpt, "--data", data, "--out", out or tmp_path / "out", *FAST, *words)
        line = told.splitlines()[-1]
        assert code == 2
        assert line.startswith("evaluate: error: ")
        assert not any(0x7F <= ord(letter) < 0xA0 for letter in line)
        return line

    return run


# ---- weights -------------------------------------------------------------------------------------------------------


SPECS = (
    "{}.pth",
    "dinov2:{}.pth",
    "untrained:{}.pth",
    "timm:vit_tiny_patch16_224/{}.pth",
    "open_clip:ViT-B-32/{}.pth",
)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "among tensors"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_pickle_among_weights_is_not_run(refuse, trace, tmp_path, monkeypatch, spec, wrapped):
    monkeypatch.setattr("open_clip.factory.CLIP", lambda *words, **settings: torch.nn.Linear(1, 1))  # 600 MB else
    torch.save({"x": torch.ones(2), "y": Malice(trace)} if wrapped else Malice(trace), tmp_path / "w.pth")
    refuse(ckpt=spec.format(tmp_path / "w"))


def test_a_pickle_in_a_model_folder_is_not_run(refuse, trace, tmp_path, make_model):
    model = make_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    torch.save({"x": Malice(trace)}, model / "pytorch_model.bin")
    assert "cannot be loaded" in refuse(ckpt=model)


def test_torchscript_is_no_file_of_weights(refuse, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    assert "TorchScript" in refuse(ckpt=tmp_path / "scripted.pt")


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deflated() -> bytes:
    """A PyTorch file whose members unfold: a hundredth of the size here, a millionth elsewhere."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"zeros": torch.zeros(100_000)}))) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


HOSTILE_WEIGHTS = {
    "empty.safetensors": b"",
    "header of 2^60 bytes.safetensors": (2**60).to_bytes(8, "little") + b"{}",
    "deep.safetensors": (50_000).to_bytes(8, "little") + b"[" * 50_000,
    "text.pth": b"<html>not found</html>",
    "cut.pth": saved({"a": torch.ones(1000)})[:900],
    "compressed.pth": deflated(),
    "a number.pth": saved(3),
    "numbered.pth": saved({1: torch.ones(2)}),
    "integers.pth": saved({"cls_token": torch.ones(1, 1, 64, dtype=torch.int64)}),
    "repeated by strides.pth": saved({"cls_token": torch.zeros(1).half().expand(1, 10**9, 10**6)}),
    "flat.pth": saved({name: torch.ones(64) for name in ("cls_token", "pos_embed", "patch_embed.proj.weight")}),
    "long number.pth": saved({f"blocks.{'9' * 5000}.x": torch.ones(1)}),
    "terminal codes.pth": saved({"\x1b]0;pwned\x07": torch.ones(1)}),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused_by_name(refuse, tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE_WEIGHTS[name])
    assert name in refuse(ckpt=tmp_path / name)


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224/{}", "open_clip:ViT-B-32/{}"])
def test_a_compressed_file_is_refused_wherever_weights_are_read(refuse, tmp_path, spec):
    (tmp_path / "w.pth").write_bytes(deflated())
    assert "is compressed" in refuse(ckpt=spec.format(tmp_path / "w.pth"))


# ---- model folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(run_folder, tmp_path):
    """A copy of a Model v1 folder."""
    return shutil.copytree((run_folder / "model").resolve(), tmp_path / "model")


def change(file: Path, **settings: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


CONFIGS = {
    "width of a billion": {"hidden_size": 10**9},
    "layers of a billion": {"num_hidden_layers": 10**9},
    "width of 100,000": {"hidden_size": 100_000, "num_attention_heads": 10},
    "patch of 0": {"patch_size": 0},
    "patch in words": {"patch_size": "wide"},
    "image of a billion": {"image_size": 10**9},
    "registers of a billion": {"num_register_tokens": 10**9},
    "no number": {"hidden_size": float("nan")},
    "heads of 0": {"num_attention_heads": 0},
    "width in words": {"hidden_size": "many"},
}


@pytest.mark.parametrize("seed", ["", "untrained:"], ids=["loaded", "untrained"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_allocates_nothing(refuse, model, name, seed):
    change(model / "config.json", **CONFIGS[name])
    assert str(model) in refuse(ckpt=f"{seed}{model}")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"[" * 100_000, '{"a": 1}'.encode("utf-16"), b"\xff"], ids=short)
def test_json_that_is_no_object_is_refused(refuse, model, file, content):
    (model / file).write_bytes(content)
    assert str(model) in refuse(ckpt=model)


PROCESSORS = {
    "size of a billion": {"crop_size": {"height": 10**9, "width": 10**9}},
    "size in words": {"crop_size": "large"},
    "size of nothing": {"crop_size": {"depth": 1}},
    "one mean": {"image_mean": [0.5]},
    "mean in words": {"image_mean": ["a", "b", "c"]},
    "std of 0": {"image_std": [0, 0, 0]},
    "no numbers": {"image_mean": [float("nan")] * 3},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_hostile_preprocessor_config_is_refused(refuse, model, name):
    change(model / "preprocessor_config.json", **PROCESSORS[name])
    assert str(model) in refuse(ckpt=model)


@pytest.mark.parametrize("kind", ["dinov2", "evil"])
def test_code_in_a_model_folder_is_not_run(call, corpus, model, trace, tmp_path, kind):
    named = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor")}
    change(model / "config.json", model_type=kind, auto_map=named, num_register_tokens=2)
    change(model / "preprocessor_config.json", auto_map=named)
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    code, _, told = call("knn", "--ckpt", model, "--data", corpus, "--out", tmp_path / "out", *FAST)
    assert code == 2, told


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_pipe_in_the_place_of_a_piece_is_not_waited_for(refuse, model, missing):
    (model / missing).unlink()
    os.mkfifo(model / missing)
    assert str(model) in refuse(ckpt=model)


# ---- recipes and words -----------------------------------------------------------------------------------------------


BOMB = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10) if i else 'lol'}]\n" for i in range(12))
RECIPES = {
    "python tag": "seed: !!python/object/apply:os.system ['touch {trace}']",
    "python name": "seed: !!python/name:os.system",
    "billion laughs": BOMB,
    "holds itself": "knn: &a {neighbours: *a}",
    "environment": "data: {name: '${oc.env:HF_TOKEN}'}",
    "interpolation": "seed: ${bootstrap}",
    "login": "data: {name: 'https://user:secret@host/x'}",
    "terminal codes": 'data: {name: "\\e]0;pwned\\a"}',
    "key twice": "seed: 1\nseed: 2",
    "tab": "knn:\n\tneighbours: [5]",
    "dotted key": "knn.temperature: 0.1",
    "list": "- seed",
    "deep": "[" * 5_000,
    "binary": "\x00\x01\x02",
    "infinite": "knn: {temperature: 1e999}",
    "not a number": "data: {crop_ratio: .nan}",
    "negative": "features: {threads: -5}",
    "absurd": "features: {batch_size: 99999999999999999999}",
    "long number": "seed: " + "9" * 5000,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused(refuse, trace, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPES[name].replace("{trace}", str(trace)))
    line = refuse(recipe)
    assert "secret" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "huge", "UTF-16", "name too long"])
def test_a_recipe_that_is_no_text_is_not_waited_for(refuse, tmp_path, kind):
    recipe = tmp_path / ("r" * (300 if kind == "name too long" else 3) + ".yaml")
    if kind == "folder":
        recipe.mkdir()
    elif kind == "pipe":
        os.mkfifo(recipe)
    elif kind == "huge":
        with recipe.open("wb") as file:
            file.truncate(100_000_000)
    elif kind == "UTF-16":
        recipe.write_bytes("seed: 1".encode("utf-16"))
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


def test_the_results_do_not_replace_a_config_of_another_origin(refuse, run_folder, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text("preset: clean\n")
    assert "give another --out" in refuse(out=out)
    assert (out / "config.yaml").read_text() == "preset: clean\n"


# ---- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["{secret}", "data/../../secret.jpg", "https://host/x.jpg", "/dev/zero", "{pipe}"])
def test_a_table_opens_no_file_elsewhere(refuse, corpus, make_image, tmp_path, path):
    import datasets

    secret, folder = tmp_path / "secret.jpg", tmp_path / "data"
    secret.write_bytes(make_image(0, np.random.default_rng(0)))
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    cell = {"bytes": None, "path": path.format(secret=secret, pipe=folder / "pipe.jpg")}
    table = datasets.Dataset.from_dict({"image": [cell], "label": ["red"]})
    table.to_parquet(folder / "table.parquet")
    line = refuse("--data", f"test={folder / 'table.parquet'}", data=f"train={corpus / 'train'}")
    assert "test row 0" in line


@pytest.fixture
def hostile_folder(make_image, tmp_path):
    """Classes whose names are markup and terminal codes, among them a pipe and a dangling link."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate((TITLE.replace("/", "\u2215"), CODES[:-1], "$x^2$ [a](b) | `c`")):
            folder = tmp_path / "hostile" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                (folder / f"{number}.jpg").write_bytes(make_image((label + number) % 3, generator))  # taken for others
            os.mkfifo(folder / "pipe.jpg")
            (folder / "nowhere.jpg").symlink_to("nothing")
    return tmp_path / "hostile"


def test_names_of_classes_are_shown_and_never_obeyed(call, hostile_folder, run_folder, tmp_path):
    out = tmp_path / "out"
    words = ("--ckpt", run_folder, "--data", hostile_folder, "--baseline", "pixels:8", "--out", out, *FAST)
    code, printed, told = call("knn", *words)
    assert code == 0, told
    assert "<img" not in printed
    page = (out / "report.html").read_text()
    assert "<img src=x" not in page
    assert page.count("<script>") == 1
    assert "&lt;img src=x" in page
    assert "\x1b" not in page + (out / "report.md").read_text() + (out / "results.jsonl").read_text()
    assert opened_title(out / "report.html", tmp_path) == "evaluate: frozen features"


def test_a_class_that_is_no_unicode_is_one_line(refuse, make_image, tmp_path):
    folder = tmp_path / "data" / "train" / "class\udcff"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(make_image(0, np.random.default_rng(0)))
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "test")
    assert "not readable as a dataset (UnicodeEncodeError" in refuse(data=tmp_path / "data")


def opened_title(page: Path, tmp_path: Path) -> str:
    """The title of a page after its scripts ran, in Chromium where it is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync dump-dom virtual-time-budget=2000"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [chromium, *(f"--{flag}" for flag in flags.split()), profile, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout.partition("<title>")[2].partition("</title>")[0]


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(run_folder, corpus, tmp_path_factory):
    """A folder of results."""
    from lvd_evaluate.benchmark import run_benchmark
    from lvd_evaluate.recipes import Assignment, build_config

    out = tmp_path_factory.mktemp("measured")
    run_benchmark(
        str(run_folder), ["pixels:8"], [Assignment(None, [str(corpus)], ["knn"], build_config(None, FAST))], out
    )
    return out


@pytest.fixture
def results(measured, tmp_path):
    """A copy of it."""
    return shutil.copytree(measured, tmp_path / "results")


def edited(**fields: object):
    """The rows, each with other fields."""

    def write(lines: list[str]) -> bytes:
        return "".join(json.dumps(json.loads(line) | fields) + "\n" for line in lines).encode()

    return write


HOSTILE_RESULTS = {
    "no JSON": b"<html>\n",
    "a list": b"[1]\n",
    "a number": b"7\n",
    "empty line": b"\n",
    "deep": b"[" * 100_000,
    "UTF-16": '{"run": "a"}\n'.encode("utf-16"),
    "invalid UTF-8": b'{"run": "\xff"}\n',
    "cut": lambda lines: lines[0][:99].encode(),
    "unknown field": edited(**{"\x1b[2J": 1}),
    "value as text": edited(value="0.5"),
    "value NaN": edited(value=float("nan")),
    "value infinite": edited(ci_high=float("inf")),
    "value as boolean": edited(value=True),
    "value beyond figures": edited(value=1e308),
    "long number": lambda lines: b'{"value": ' + b"9" * 5000 + b"}\n",
    "setting as list": edited(setting=[]),
    "shots as text": edited(setting={"per_class": "x"}),
    "comparisons without a verdict": edited(comparisons=[{"spec": "x"}]),
    "difference as text": edited(comparisons=[{"spec": "x", "baseline": "x", "verdict": "tie", "delta": "x"}]),
    "published without a value": edited(published={"source": "x"}),
    "versions as list": edited(versions=["x"]),
    "a billion classes": edited(n_classes=10**12),
    "run elsewhere": edited(run="../../secret"),
    "run absolute": edited(run="/etc"),
    "line of 10 MB": edited(reason="x" * 10_000_000),
    "text of 100 kB": edited(model="x" * 100_000),
}


@pytest.mark.parametrize("name", HOSTILE_RESULTS)
def test_hostile_results_are_refused_by_line(call, results, name):
    file = results / "results.jsonl"
    lines, content = file.read_text().splitlines(), HOSTILE_RESULTS[name]
    file.write_bytes(content(lines) if callable(content) else content)
    before = file.read_bytes()
    code, _, told = call("report", results)
    assert code == 2
    assert "line 1: no lvd-results-v1 row" in told
    assert len(told) < 2000
    assert file.read_bytes() == before


MARKUP = (
    "model",
    "task",
    "protocol",
    "probe",
    "metric",
    "spec",
    "loader",
    "preprocessing",
    "feature",
    "procedure",
    "unit",
    "units",
)


def test_markup_in_every_field_of_a_row_is_shown_and_never_obeyed(call, results, tmp_path):
    lines = (results / "results.jsonl").read_text().splitlines()
    hostile = {field: f"{TITLE}{CODES} ![x](http://host/x.png) {field}" for field in MARKUP}
    rows = edited(**hostile, setting={TITLE: TITLE + CODES}, notes={"chosen_on": TITLE}, versions={TITLE: TITLE})(
        lines[:1]
    )
    missing = {"status": "unavailable", "reason": TITLE + CODES, "value": None, "spec": "x", "comparisons": []}
    rows += edited(**missing, versions={TITLE: CODES})(lines[:1])
    (results / "results.jsonl").write_bytes(rows + rows)  # and twice
    code, printed, told = call("report", results)
    assert code == 0, told
    assert "<img" not in printed
    assert "![x](" not in printed
    page = (results / "report.html").read_text()
    assert "<img src=x" not in page
    assert page.count("<script>") == 1
    assert opened_title(results / "report.html", tmp_path) == "evaluate: frozen features"


@pytest.mark.parametrize("how", ["cut", "pickle", "other shapes", "empty", "beyond"])
def test_hostile_predictions_are_left_out_of_the_report(call, results, trace, caplog, how):
    for file in (results / "predictions").glob("*.npz"):
        arrays = dict(np.load(file))
        name = next(key for key in arrays if key.startswith("prediction "))
        if how == "cut":
            file.write_bytes(file.read_bytes()[:200])
        elif how == "pickle":
            np.savez(file, **(arrays | {"label": np.array([Malice(trace)], dtype=object)}))
        else:
            wrong = {"other shapes": np.zeros(3, int), "empty": np.zeros(0, int), "beyond": arrays["label"] + 10**15}
            np.savez(file, **(arrays | {name: wrong[how]}))
    code, printed, told = call("report", results)
    assert code == 0, told
    assert "kNN top-1" in printed
    assert "single classes are left out" in caplog.text


def test_pictures_beside_the_results_are_read_from_there_alone(call, results, make_image, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.png").write_bytes(make_image(0, np.random.default_rng(0)))
    (results / "pictures").mkdir()
    os.mkfifo(results / "pictures" / "pipe.png")
    (results / "pictures" / f"{TITLE.replace('/', '')}.png").write_bytes(b"<svg onload=alert(1)>")
    code, _, told = call("report", results)
    assert code == 0, told
    assert "<svg onload" not in (results / "report.html").read_text()


@pytest.mark.parametrize("how", ["cut", "pickle", "other shape"])
def test_a_poisoned_shard_of_features_is_computed_again(call, results, corpus, run_folder, trace, how):
    before = {file: file.read_bytes() for file in (results / "features").rglob("cls.npy")}
    for file in before:
        if how == "cut":
            file.write_bytes(before[file][:-9])
        elif how == "pickle":
            np.save(file, np.array([Malice(trace)], dtype=object))
        else:
            np.save(file, np.zeros((2, 2), np.float16))
    shutil.rmtree(results / "predictions")
    (results / "results.jsonl").unlink()
    words = ("--ckpt", run_folder, "--data", corpus, "--baseline", "pixels:8", "--out", results, *FAST)
    code, _, told = call("knn", *words)
    assert code == 0, told
    assert {file: file.read_bytes() for file in before} == before


def test_a_measurement_over_local_files_connects_to_nothing(call, corpus, run_folder, tmp_path, monkeypatch):
    import socket

    def refuse_network(*words: object, **settings: object) -> None:
        raise AssertionError(f"the network was asked for {words[1:]}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse_network)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_network)
    words = ("--ckpt", run_folder, "--data", corpus, "--baseline", "pixels:8", "--out", tmp_path / "out", *FAST)
    code, _, told = call("knn", *words)
    assert code == 0, told
