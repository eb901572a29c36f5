"""What `curate build-lvd` cannot use: one line that names the value and the way out, exit code 2, nothing published."""

import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvd_curate.inputs import folders

Run = Callable[..., tuple[int, str]]
Spoil = Callable[[Path], list[str]]
"""Writes something bad below a folder and returns the words that name it."""


def write(name: str, data: bytes | str, *words: str) -> Spoil:
    """Write one file `name` below {1}, and name it in `words` as {0}, or as a second pool."""

    def spoil(root: Path) -> list[str]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return [word.format(root / name, root) for word in words or ("--pool=bad={}",)]

    return spoil


def say(*words: str) -> Spoil:
    """Write nothing; {} is the folder."""
    return lambda root: [word.format(root) for word in words]


def write_table(columns: dict[str, Any], cut: float = 1.0, suffix: str = "parquet") -> Spoil:
    """Write a table, or its first part, as a second pool."""

    def spoil(root: Path) -> list[str]:
        file, table = root / f"x.{suffix}", pa.table(columns)
        if suffix == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * cut)])
        return [f"--pool=bad={file}"]

    return spoil


def write_vectors(matrix: Any, names: str | None = "a.jpg\nb.jpg\n", pickled: bool = False) -> Spoil:
    """Write a .npy and its names as ready-made embeddings."""

    def spoil(root: Path) -> list[str]:
        np.save(root / "x.npy", matrix, allow_pickle=pickled)
        if names is not None:
            (root / "x.txt").write_text(names)
        return [f"embed.encoder=embeddings:{root / 'x.npy'}"]

    return spoil


def write_vector_table(columns: dict[str, Any]) -> Spoil:
    """Write a Parquet file of ready-made embeddings."""

    def spoil(root: Path) -> list[str]:
        pq.write_table(pa.table(columns), root / "x.parquet")
        return [f"embed.encoder=embeddings:{root / 'x.parquet'}"]

    return spoil


def make_pipe(root: Path) -> list[str]:
    os.mkfifo(root / "x.tar")
    return [f"--pool=bad={root / 'x.tar'}"]


def save_without_its_data(root: Path) -> list[str]:
    table = pa.table({"image": [b"x"]})
    datasets.Dataset(table).save_to_disk(root / "saved", num_shards=1)
    (root / "saved/state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-0.arrow"}, {"filename": "../up.arrow"}]})
    )
    return [f"--pool=bad={root / 'saved'}"]


def fill_output(root: Path) -> list[str]:
    (root / "out").mkdir()
    (root / "out/thesis.tex").write_text("ten years of work")
    return []


BYTES = {"image": [bytes(1000)] * 50}
RUNS: dict[str, tuple[Spoil, str]] = {
    "missing path": (say("--pool=bad={}/none/at/all"), "no folder or file at .*none/at/all; give a folder"),
    "empty folder": (lambda root: (root / "e").mkdir() or [f"--pool=e={root}/e"], "the pool set 'e' is empty"),
    "no image in a folder": (write("d/notes.md", "x", "--pool=d={1}/d"), "the pool set 'd' is empty"),
    "blank place": (write("r.yaml", "pool: {p: ' '}", "{}"), "the pool set 'p' names no place"),
    "file of another kind": (write("x.docx", "x"), r"x\.docx is neither a folder nor a file of images; give"),
    "pipe": (make_pipe, r"x\.tar is neither a folder nor a file of images"),
    "name too long": (say("--pool=bad={}/" + "x" * 300), "File name too long"),
    "hub unreachable": (say("--pool=bad=hf:nobody/nothing"), "hf:nobody/nothing cannot be reached .*no network"),
    "hub id of one word": (say("--pool=bad=hf:nobody"), "hf:nobody is no hub id; give a folder"),
    "broken seeds": (
        write("b/x.jpg", "x", "--seeds=seeds={1}/b"),
        r"the seeds hold no usable image: .*x\.jpg is not an image",
    ),
    "pattern without match": (say("--pool=bad={}/*.tar"), r"no file matches .*\*\.tar"),
    "brace without file": (say("--pool=bad={}/{{0..3}}.tar"), r"no file at .*0\.tar, which"),
    "list not UTF-8": (write("l.txt", "é".encode("latin-1")), "no list of paths: not UTF-8"),
    "empty list": (write("l.txt", "\n\n"), "the pool set 'bad' is empty"),
    "tar of nothing": (write("x.tar", b""), r"x\.tar is no readable tar archive"),
    "tar of garbage": (write("x.tar", b"garbage" * 999), r"x\.tar is no readable tar archive"),
    "tar without members": (write("x.tar", bytes(10240)), "the pool set 'bad' is empty"),
    "compressed tar": (write("x.tar.gz", b"\x1f\x8b"), r"x\.tar\.gz is compressed.*; unpack it"),
    "Parquet of garbage": (write("x.parquet", "garbage" * 99), r"x\.parquet is no readable Parquet file"),
    "Parquet cut": (write_table(BYTES, cut=0.5), r"x\.parquet is no readable Parquet file"),
    "Parquet without images": (write_table({"label": [1]}), r"x\.parquet: no column of image bytes; it has label"),
    "Parquet of two images": (write_table({"a": [b"x"], "b": [b"x"]}), r"several columns of bytes \(a, b\)"),
    "Parquet without rows": (write_table({"image": pa.array([], pa.binary())}), "the pool set 'bad' is empty"),
    "Arrow of garbage": (write("x.arrow", "garbage" * 99), r"x\.arrow is no readable Arrow file"),
    "Arrow of nothing": (write("x.arrow", b""), r"x\.arrow is no readable Arrow file"),
    "Arrow cut": (write_table(BYTES, cut=0.7, suffix="arrow"), r"x\.arrow is no readable Arrow file"),
    "saved dataset without data": (save_without_its_data, r"data-0\.arrow is missing"),
    "recipe missing": (say("{}/none.yaml"), r"no recipe file at .*none\.yaml"),
    "recipe no YAML": (write("r.yaml", "pool: [}", "{}"), r"r\.yaml"),
    "recipe a list": (write("r.yaml", "[1, 2]", "{}"), r"r\.yaml must map knobs to values"),
    "recipe no text": (write("r.yaml", b"\xff\xfe\x00", "{}"), r"r\.yaml"),
    "two recipes": (say("a.yaml", "b.yaml"), "one recipe at most"),
    "unknown key": (say("retreive.neighbours=3"), "unknown key 'retreive.*; the nearest is 'retrieve"),
    "unknown key in a recipe": (write("r.yaml", "screen: {min_sides: 3}", "{}"), "nearest is 'screen.min_side'"),
    "wrong type": (say("retrieve.neighbours=many"), "retrieve.neighbours: .*many"),
    "number out of range": (say("deduplicate.threshold=7"), r"deduplicate\.threshold=7\.0: a cosine, -1 to 1"),
    "neither recipe nor knob": (say("go"), "'go' is neither a recipe ending in .yaml nor a key=value word"),
    "two sets of one name": (say("--pool=twin=a", "--pool=twin=b"), "two sets are named 'twin'"),
    "set without name": (say("--seeds==x"), "write NAME=PATH"),
    "out inside the pool": (say("--out={}/../good/out"), "lies inside the pool set 'good'"),
    "out is there": (fill_output, "exists and is not this recipe's dataset; move it away"),
    "out is a file": (write("out", "x", "random_seed=1"), "exists and is not this recipe's dataset"),
    "out without folder": (say("--out={}/no/such/out"), "there is no folder .*; make it first"),
    "encoder missing": (say("embed.encoder={}/none"), "encoder .*none' is no folder; give a Model v1 folder"),
    "encoder of an unknown kind": (say("embed.encoder=keras:x"), "encoder 'keras:x' is no folder; give"),
    "encoder broken": (write("m/config.json", "{{", "embed.encoder={1}/m"), "encoder .* give a Model v1 folder"),
    "encoder no TorchScript": (write("x.pt", "x", "embed.encoder=torchscript:{}"), "encoder .* cannot be read"),
    "embeddings missing": (say("embed.encoder=embeddings:{}/none.npy"), r"no embeddings at .*none\.npy; give"),
    "embeddings of another kind": (write("x.csv", "x", "embed.encoder=embeddings:{}"), "no known kind of file; give"),
    "embeddings without names": (write_vectors(np.ones((2, 4)), None), r"x\.npy has no names: put x\.txt"),
    "embeddings too few names": (write_vectors(np.ones((3, 4))), "names 2 vectors, but there are 3"),
    "embeddings of one name": (write_vectors(np.ones((2, 4)), "a\na\n"), "names 'a' more than once"),
    "embeddings of words": (write_vectors(np.array([["a"], ["b"]])), "give a matrix of numbers"),
    "embeddings flat": (write_vectors(np.ones(2)), "holds 2 values of float64; give a matrix"),
    "embeddings pickled": (
        write_vectors(np.array([pickle.Pickler, None]), pickled=True),
        r"x\.npy is no readable \.npy matrix",
    ),
    "embeddings of two widths": (
        write_vector_table({"path": ["0.jpg", "1.jpg"], "embedding": [[1.0, 2.0], [1.0]]}),
        "the vector of row 1 has 1 numbers, others 2",
    ),
    "embeddings without column": (write_vector_table({"path": ["a"]}), "has no column embedding, only path"),
    "embeddings of numbers only": (write_vector_table({"embedding": [[1.0]]}), "neither a column id nor path"),
    "embeddings of no image": (write_vectors(np.ones((2, 4)), "x\ny\n"), "nothing is left"),
    "everything excluded": (say("--exclude=all={}/../good"), "nothing is left of the pool"),
}


@pytest.fixture(scope="module")
def words(
    tmp_path_factory: pytest.TempPathFactory, picture: Callable[..., Any], jpeg: Callable[..., bytes], numb_encoder: str
) -> list[str]:
    """A command that works: a small pool `good` and seeds."""
    root = tmp_path_factory.mktemp("sets")
    for name, first in (("good", 0), ("seeds", 100)):
        (root / name).mkdir()
        for number in range(first, first + 4):
            (root / name / f"{number}.jpg").write_bytes(jpeg(picture(number)))
    return [f"--pool=good={root / 'good'}", f"--seeds=seeds={root / 'seeds'}", f"embed.encoder={numb_encoder}"]


@pytest.fixture
def place(words: list[str]) -> Iterator[Path]:
    """An empty folder beside the sets."""
    root = Path(words[0].partition("good=")[2]).parent / "place"
    root.mkdir()
    yield root
    os.rename(root, root.with_name(f"place-{len(list(root.parent.iterdir()))}"))


def expect_one_line(run_curate: Run, words: list[str], out: Path, message: str) -> None:
    """Run a command that must fail: one line that names the value, exit code 2, nothing published."""
    before = sorted(out.rglob("*")) if out.is_dir() else out.exists()
    code, said = run_curate("build-lvd", *words, "execution.engine=inline")
    lines = [line for line in said.splitlines() if "error" in line.lower()]
    assert code == 2, said
    assert len(lines) == 1, said
    assert lines[0].startswith("curate: error: ")
    assert re.search(message, lines[0]), lines[0]
    assert said.endswith(lines[0] + "\n"), "the error is the last word"
    assert "Traceback" not in said
    assert (sorted(out.rglob("*")) if out.is_dir() else out.exists()) == before


@pytest.mark.parametrize("kind", RUNS)
def test_what_cannot_be_used_is_one_line_and_code_2(
    run_curate: Run, words: list[str], place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    spoil, message = RUNS[kind]
    changed = spoil(place)
    replaced = {word.rpartition("=")[0] for word in changed}
    kept = [word for word in [*words, f"--out={place / 'out'}"] if word.rpartition("=")[0] not in replaced]
    expect_one_line(run_curate, [*kept, *changed], place / "out", message)


@pytest.mark.parametrize(
    ("number", "message"),
    [(5, "Input/output error: .*good"), (13, "good may not be read"), (2, "good went away while it was read")],
)
def test_a_folder_that_fails_is_one_line(
    run_curate: Run, words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(folder: bytes) -> None:
        raise OSError(number, os.strerror(number), os.fsdecode(folder))

    monkeypatch.setattr(folders.os, "scandir", fail)
    expect_one_line(run_curate, [*words, f"--out={place / 'out'}"], place / "out", message)
