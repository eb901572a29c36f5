"""What others made may be wrong or made to do harm: one line and exit code 2, nothing run, nothing lost.

docs/threats.md promises what is tested here.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tests.pretrain.conftest import TINY

from lvd_pretrain import cli


def short(value: object) -> str:
    return repr(value)[:16]


class Malice:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path):
    """A file that must not be there when the test ends: whoever unpickled what is hostile made it."""
    path = tmp_path / "unpickled"
    yield path
    assert not path.exists(), "code from an input was run"


@pytest.fixture
def refuse(monkeypatch, capsys, images, tmp_path):
    """`refuse("init_from=x.pth", ...)`: pretrain's one error line; whatever it says must fit on it."""

    def run(*words: str, recipe: Path | None = None) -> str:
        standing = [] if recipe else [*TINY, f"data.path={images}"]
        out = () if any(word.startswith("out=") for word in words) else (f"out={tmp_path / 'run'}",)
        monkeypatch.setattr(sys, "argv", ["pretrain", *([str(recipe)] if recipe else []), *standing, *out, *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        lines = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert lines[-1].startswith("pretrain: error: ")
        assert not any("Traceback" in line for line in lines)
        assert lines[-1].isprintable()
        return lines[-1]

    return run


# ---- a run folder's checkpoint ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped_run(tiny_at, tmp_path_factory):
    """A run of one step out of two."""
    from lvd_pretrain.train import pretrain

    out = tmp_path_factory.mktemp("stopped") / "run"
    return pretrain(tiny_at(out, "optim.steps=1", "optim.warmup=0", "trackers=[]"))


@pytest.fixture
def resumed(stopped_run, tmp_path):
    """A copy of it, its checkpoint, and the words that go on with it."""
    run = shutil.copytree(stopped_run, tmp_path / "run", symlinks=True)
    (checkpoint,) = (run / "checkpoints").iterdir()
    return checkpoint, [f"out={run}", "optim.steps=1", "optim.warmup=0", "trackers=[]"]


def rewrite(checkpoint: Path, name: str, content: bytes) -> None:
    """Put other bytes into a checkpoint, its list of sizes mended so that only reading it can tell."""
    (checkpoint / name).write_bytes(content)
    state = json.loads((checkpoint / "state.json").read_text())
    state["files"][name] = len(content)
    (checkpoint / "state.json").write_text(json.dumps(state))


def alter(checkpoint: Path, change) -> None:
    """Change the metadata as its writer could have."""
    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())
    change(metadata)
    rewrite(checkpoint, ".metadata", pickle.dumps(metadata))


def point_to(path: str):
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    def change(metadata):
        metadata.storage_data = dict.fromkeys(metadata.storage_data, _StorageInfo(path, 0, 9))

    return change


@pytest.mark.parametrize("place", ["itself", "a value", "nested", "a value that is no tensor"])
def test_a_pickle_in_a_checkpoint_is_not_run(resumed, refuse, trace, place):
    checkpoint, words = resumed
    if place == "itself":
        rewrite(checkpoint, ".metadata", pickle.dumps(Malice(trace)))
    elif place == "a value":
        alter(checkpoint, lambda metadata: metadata.planner_data.update(x=Malice(trace)))
    elif place == "nested":
        alter(checkpoint, lambda metadata: setattr(metadata, "version", [{"a": (Malice(trace),)}]))
    else:
        poison_values(checkpoint, Malice(trace))
    line = refuse(*words)
    assert "step_00000001 cannot be read" in line
    assert "remove that folder" in line


def poison_values(checkpoint: Path, value: object) -> None:
    """Every number of the optimizer becomes `value`, stored as PyTorch stores what is no tensor."""
    import io

    from torch.distributed.checkpoint.metadata import BytesStorageMetadata

    buffer = io.BytesIO()
    torch.save(value, buffer)
    shard = next(checkpoint.glob("*.distcp"))
    start = shard.stat().st_size
    rewrite(checkpoint, shard.name, shard.read_bytes() + buffer.getvalue())

    def change(metadata):
        from dataclasses import replace

        numbers = {
            name for name, kind in metadata.state_dict_metadata.items() if isinstance(kind, BytesStorageMetadata)
        }
        for index, place in metadata.storage_data.items():
            if index.fqn in numbers:
                metadata.storage_data[index] = replace(place, offset=start, length=len(buffer.getvalue()))

    alter(checkpoint, change)


@pytest.mark.parametrize("path", ["../../config.yaml", "/etc/hostname", "pipe", "state.json"])
def test_a_checkpoint_that_names_other_files_is_refused(resumed, refuse, path):
    checkpoint, words = resumed
    os.mkfifo(checkpoint / "pipe")  # opened, it would be waited for
    alter(checkpoint, point_to(path))
    assert "cannot be read" in refuse(*words)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x05N.", b"not a pickle", pickle.dumps({"a": 1}), b"(" * 100_000], ids=short
)
def test_metadata_that_describes_nothing_is_refused(resumed, refuse, content):
    checkpoint, words = resumed
    rewrite(checkpoint, ".metadata", content)
    assert "cannot be read" in refuse(*words)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"step": 1, "files": ["a"]}', '{"step": "x", "files": {}}', "[" * 100_000, "\xff\xfe{"],
    ids=lambda text: text[:12],
)
def test_a_hostile_state_is_no_checkpoint(resumed, refuse, text):
    checkpoint, words = resumed
    (checkpoint / "state.json").write_text(text)
    assert "no checkpoint is whole" in refuse(*words)


# ---- weights to start from or to learn from --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(stopped_run):
    """The tensors of a backbone, in the official layout."""
    from lvd_pretrain.pretrained import open_pretrained

    return open_pretrained(str(stopped_run)).backbone


WAYS_IN = ("init_from={}", "distill.teacher={}", "init_from=timm:vit_small_patch14_dinov2/{}")


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "among tensors"])
def test_a_pickle_among_weights_is_not_run(refuse, trace, weights, tmp_path, way, wrapped):
    file = tmp_path / "weights.pth"
    torch.save({**weights, "extra": Malice(trace)} if wrapped else Malice(trace), file)
    line = refuse(way.format(file), "model.drop_path=0")
    assert "nothing is unpickled" in line
    assert "weights_only" not in line  # PyTorch's advice, to unpickle it all the same


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def deflated(weights) -> bytes:
    """A PyTorch file whose members unfold: a hundredth of the size here, a millionth elsewhere."""
    import io
    import zipfile

    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({"zeros": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def saved(change):
    """A file of PyTorch's: the weights after `change`."""

    def write(weights) -> bytes:
        import io

        buffer = io.BytesIO()
        torch.save(change(dict(weights)), buffer)
        return buffer.getvalue()

    return write


def without(*names):
    return lambda weights: {name: tensor for name, tensor in weights.items() if name not in names}


def swap(name, change):
    return lambda weights: weights | {name: change(weights[name])}


HOSTILE_WEIGHTS = {
    "empty.safetensors": b"",
    "cut.safetensors": safetensors({"cls_token": entry([9], 0, 36)}, b"\0" * 9),
    "header of 2^60 bytes.safetensors": safetensors({}, length=2**60),
    "header of 2^64 - 1 bytes.safetensors": safetensors({}, length=2**64 - 1),
    "overlapping.safetensors": safetensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "absurd shape.safetensors": safetensors({"a": entry([2**62, 2**62], 0, 4)}, bytes(4)),
    "negative.safetensors": safetensors({"a": entry([-1], 0, 4)}, bytes(4)),
    "unknown type.safetensors": safetensors({"a": entry([1], 0, 4, "F4096")}, bytes(4)),
    "a list.safetensors": safetensors([1, 2]),
    "deep.safetensors": safetensors(b"[" * 50_000),
    "integers.safetensors": safetensors({"cls_token": entry([1], 0, 8, "I64")}, bytes(8)),
    "text.pth": b"<html>not found</html>",
    "cut.pth": lambda weights: saved(dict)(weights)[:2000],
    "compressed.pth": deflated,
    "a list.pth": saved(lambda weights: list(weights.values())),
    "a number.pth": saved(lambda weights: 3),
    "numbered.pth": saved(lambda weights: dict(enumerate(weights.values()))),
    "nan.pth": saved(swap("norm.weight", lambda tensor: tensor * float("nan"))),
    "infinite.pth": saved(swap("pos_embed", lambda tensor: tensor / 0)),
    "sparse.pth": saved(swap("norm.weight", lambda tensor: tensor.to_sparse())),
    "complex.pth": saved(swap("norm.weight", lambda tensor: tensor.to(torch.complex64))),
    "repeated by strides.pth": saved(swap("pos_embed", lambda _: torch.zeros(1).expand(1, 10**9, 10**6))),
    "no positions.pth": saved(without("pos_embed")),
    "no feed-forward.pth": saved(without("blocks.0.mlp.fc2.weight")),
    "flat positions.pth": saved(swap("pos_embed", lambda tensor: tensor.flatten())),
    "no width.pth": saved(swap("cls_token", lambda tensor: tensor[..., :0])),
    "a scalar.pth": saved(swap("patch_embed.proj.weight", lambda tensor: tensor.sum())),
    "a billion blocks.pth": saved(lambda weights: weights | {"blocks.999999999.norm1.weight": torch.zeros(32)}),
    "block 4000.pth": saved(lambda weights: weights | {"blocks.4000.norm1.weight": torch.zeros(32)}),
    "long number.pth": saved(lambda weights: weights | {f"blocks.{'9' * 5000}.x": torch.zeros(1)}),
    "terminal codes.pth": saved(lambda weights: weights | {"\x1b]0;pwned\x07\x1b[2J": torch.zeros(1)}),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused_by_name(refuse, weights, tmp_path, name):
    content = HOSTILE_WEIGHTS[name]
    file = tmp_path / name
    file.write_bytes(content(weights) if callable(content) else content)
    assert str(file) in refuse(f"init_from={file}")


@pytest.fixture
def model(stopped_run, tmp_path):
    """A copy of a Model v1 folder."""
    return shutil.copytree((stopped_run / "model").resolve(), tmp_path / "model")


HOSTILE_JSON = {
    "empty": b"",
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "UTF-16": '{"model_type": "dinov2"}'.encode("utf-16"),
    "another type": b'{"model_type": "llama\\u001b[31m", "auto_map": {"AutoModel": "evil--code.Model"}}',
    "no heads": b'{"model_type": "dinov2"}',
    "heads in words": b'{"model_type": "dinov2", "num_attention_heads": "many"}',
    "a billion heads": b'{"model_type": "dinov2", "num_attention_heads": 1000000000}',
    "type is a list": b'{"model_type": ["dinov2"], "num_attention_heads": 2}',
    "long number": b'{"model_type": "dinov2", "num_attention_heads": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_a_hostile_config_of_a_model_is_refused(refuse, model, name):
    (model / "config.json").write_bytes(HOSTILE_JSON[name])
    assert str(model) in refuse(f"init_from={model}")


@pytest.mark.parametrize(
    "text", ["[]", '{"config": []}', '{"config": {"model": {"pos_embed_offset": "x"}}}', "[" * 100_000], ids=short
)
def test_a_hostile_training_record_of_a_model_is_refused(refuse, model, text):
    (model / "training.json").write_text(text)
    assert str(model) in refuse(f"init_from={model}")


def test_code_in_a_model_folder_is_not_run(refuse, model, trace):
    settings = json.loads((model / "config.json").read_text())
    settings |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (model / "config.json").write_text(json.dumps(settings))
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    assert "model_type is evil" in refuse(f"init_from={model}")


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "heads.safetensors"])
def test_a_model_without_a_piece_or_with_a_pipe_in_its_place(refuse, model, missing):
    (model / missing).unlink()
    os.mkfifo(model / missing)  # opened, it would be waited for
    words = [f"distill.teacher={model}", "model.drop_path=0", "optim.steps=1", "optim.warmup=0", "trackers=[]"]
    if missing == "heads.safetensors":  # optional: its teacher gets fresh heads
        from lvd_pretrain.pretrained import open_pretrained

        assert open_pretrained(str(model)).heads == {}
    else:
        assert str(model) in refuse(*words)


def test_heads_of_hostile_shapes_are_refused(refuse, model):
    from safetensors.torch import save_file

    save_file({"dino_head.last_layer.weight_v": torch.zeros(64, 16)}, model / "heads.safetensors")
    assert "dino_head" in refuse(f"distill.teacher={model}", "model.drop_path=0")


# ---- recipes and words -----------------------------------------------------------------------------------------------


BOMB = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10) if i else 'lol'}]\n" for i in range(12))
RECIPES = {
    "python tag": "seed: !!python/object/apply:os.system ['touch {trace}']",
    "billion laughs": BOMB,
    "holds itself": "data: &a {paths: *a}",
    "environment": "data: {path: '${oc.env:HF_TOKEN}'}",
    "login": "data: {path: 'https://user:secret@host/x.tar', streaming: true}",
    "terminal codes": 'out: "\\e]0;pwned\\a"',
    "key twice": "seed: 1\nseed: 2",
    "tab": "optim:\n\tsteps: 5",
    "dotted key": "optim.steps: 5",
    "list": "- seed",
    "deep": "[" * 5_000,
    "binary": "\x00\x01\x02",
    "infinite": "optim: {base_lr: 1e999}",
    "not a number": "optim: {clip: .nan}",
    "negative": "optim: {steps: -5}",
    "long number": "seed: " + "9" * 5000,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused(refuse, trace, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPES[name].replace("{trace}", str(trace)))
    assert "secret" not in refuse(recipe=recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "huge", "UTF-16"])
def test_a_recipe_that_is_no_text_is_not_waited_for(refuse, tmp_path, kind):
    recipe = tmp_path / "recipe.yaml"
    if kind == "folder":
        recipe.mkdir()
    elif kind == "pipe":
        os.mkfifo(recipe)
    elif kind == "huge":
        with recipe.open("wb") as file:
            file.truncate(100_000_000)
    else:
        recipe.write_bytes("seed: 1".encode("utf-16"))
    assert str(recipe) in refuse(recipe=recipe)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "model"])
def test_a_run_does_not_replace_what_is_not_its_own(refuse, tmp_path, name):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("mine: 1\n")
    assert "give another out=" in refuse(f"out={out}", "trackers=[]")
    assert (out / name).read_text() == "mine: 1\n"


# ---- data and network ------------------------------------------------------------------------------------------------


def test_pipes_and_dangling_links_are_no_images(tmp_path):
    from lvd_pretrain.sources import walk_files

    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("nothing")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert list(walk_files(tmp_path)) == []


def test_a_run_over_local_files_connects_to_nothing(tiny, monkeypatch):
    import socket

    from lvd_pretrain.train import pretrain

    def refuse(*words: object, **settings: object) -> None:
        raise AssertionError(f"the network was asked for {words[1:]}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert (pretrain(tiny("optim.steps=1", "optim.warmup=0", "trackers=[]")) / "model").is_dir()


def test_a_model_card_shows_names_and_obeys_none(tiny_at, tmp_path):
    from lvd_pretrain.card import model_card

    out = tmp_path / "<img src=x onerror=alert(1)> ![x](http:host)"
    config = tiny_at(out, 'data.path="a | `b` ``` <script>"', 'init_from="c ``` | d"')
    card = model_card(config, 1, {"dataset": "d", "images": 1, "global_batch": 4}, None)
    assert r"# \<img src=x onerror=alert(1)\> \!\[x\](http:host)" in card
    assert r"| ```` a \| `b` ``` <script> ````, 1 images" in card
    assert card.count("\n````yaml\n") == card.count("\n````\n") == 1  # longer than any run of marks inside
