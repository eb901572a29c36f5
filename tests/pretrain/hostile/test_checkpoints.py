"""Checkpoints that others wrote: no pickle in them is run, no other file is opened for them."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.hostile_files import Malice, saved, short
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata


@pytest.fixture
def resumed(stopped_run, tmp_path):
    """A copy of a run that stopped, its checkpoint, and the words that go on with it."""
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
    content = saved(value)
    shard = next(checkpoint.glob("*.distcp"))
    start = shard.stat().st_size
    rewrite(checkpoint, shard.name, shard.read_bytes() + content)

    def change(metadata):
        numbers = {
            name for name, kind in metadata.state_dict_metadata.items() if isinstance(kind, BytesStorageMetadata)
        }
        for index, place in metadata.storage_data.items():
            if index.fqn in numbers:
                metadata.storage_data[index] = replace(place, offset=start, length=len(content))

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
