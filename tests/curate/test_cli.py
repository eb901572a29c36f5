"""The command as a user meets it: one clear line and exit code 2 for whatever the user can mend."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lvd_curate.cli import main, name_sets
from lvd_curate.engine import artifacts

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["curate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def words(world: Path, encoder: Path, tmp_path: Path) -> list[str]:
    return [
        "build-lvd",
        f"--pool={world / 'pool'}",
        f"--seeds=objects={world / 'seeds'}",
        f"--exclude=test={world / 'test'}",
        f"--out={tmp_path / 'out'}",
        f"embed.encoder={encoder}",
        "execution.engine=inline",
    ]


def test_a_whole_run_and_the_same_again(curate: Run, words: list[str], tmp_path: Path) -> None:
    assert curate(*words)[:2] == (0, f"{tmp_path / 'out'}: built\n")
    code, said, _ = curate(*words)
    assert code == 0
    assert "is there already" in said
    code, _, wrong = curate(*words, "random_seed=3")
    assert code == 2
    assert "move it away or choose another --out" in wrong


def test_a_recipe_can_hold_everything(curate: Run, world: Path, encoder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"pool: {{p: {world / 'pool'}}}\nseeds: {{s: {world / 'seeds'}}}\nembed: {{encoder: {encoder}}}\n"
    )
    assert curate("build-lvd", recipe, "--out", tmp_path / "out", "execution.engine=inline")[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--pool=more=/no/such/pool"], "no folder or file at /no/such/pool"),
        (["--pool={empty}"], "the pool set 'empty' is empty"),
        (["retreive.mode=both"], "unknown key 'retreive"),
        (["embed.encoder=/no/such/model"], "encoder '/no/such/model' is no folder; give a Model v1 folder"),
        (["embed.encoder={broken}"], "cannot be read"),
        (["--seeds=objects=elsewhere"], "--seeds: two sets are named 'objects'"),
        (["--out={world}/pool/out"], "lies inside the pool set 'pool'"),
        (["recipe.txt"], "'recipe.txt' is neither a recipe ending in .yaml nor a key=value word"),
        (["none.yaml"], "no recipe file at none.yaml"),
        (["a.yaml", "b.yaml"], "one recipe at most"),
        (["--seeds==x"], "--seeds '=x': write NAME=PATH"),
        (["--out={world}/" + "x" * 300], "File name too long"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    curate: Run, words: list[str], change: list[str], message: str, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{not json")
    places = {"empty": tmp_path / "empty", "broken": tmp_path / "broken", "world": world}
    code, said, wrong = curate(*words, *(word.format(**places) for word in change))
    assert (code, said) == (2, "")
    errors = [line for line in wrong.splitlines() if line.startswith("curate: error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in wrong
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("left_out", "message"), [("--pool", "no pool"), ("--seeds", "no seeds"), ("embed.", "no encoder")]
)
def test_what_is_missing_is_named(curate: Run, words: list[str], left_out: str, message: str) -> None:
    code, _, wrong = curate(*(word for word in words if not word.startswith(left_out)))
    assert code == 2
    assert wrong.startswith(f"curate: error: {message}")


def test_a_missing_option_is_a_usage_error(curate: Run) -> None:
    code, _, wrong = curate("build-lvd", "--pool", "x")
    assert code == 2
    assert "--out" in wrong


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EISDIR])
def test_a_full_or_forbidden_disk_is_one_line_and_leaves_nothing_half(
    curate: Run, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "fsync", full)
        code, _, wrong = curate(*words)
    assert code == 2
    assert f"curate: error: {os.strerror(number)}" in wrong
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.work").rglob("*.tmp"))
    assert curate(*words)[0] == 0


def test_help_is_quick_and_names_both_commands() -> None:
    started = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lvd_curate", "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - started < 5
    assert "build-lvd" in shown.stdout
    assert "sample-corpus" in shown.stdout
    loaded = {line.rsplit("|")[-1].strip() for line in shown.stderr.splitlines()}
    assert not loaded & {"torch", "polars", "faiss", "datasets", "numpy", "PIL"}


def test_work_that_never_succeeds_is_one_line(curate: Run, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lvd_curate.stages import materialize

    def fail(job: object, schema: object) -> int:
        raise MemoryError("no room")

    monkeypatch.setattr(materialize, "write_shard", fail)
    code, _, said = curate(*words)
    assert code == 2
    assert "MemoryError: no room" in said.splitlines()[-1]
    assert "Each failed three times" in said


def test_where_an_audit_writes_is_looked_at_first(curate: Run, world: Path, tmp_path: Path) -> None:
    code, _, said = curate("audit", world / "pool", f"--against=t={world / 'test'}", "--out", tmp_path / "no/x.parquet")
    assert (code, "there is no folder" in said) == (2, True)


def test_names_of_sets_are_text_that_can_be_shown(curate: Run) -> None:
    assert name_sets("pool", ["a\x1b[2J\n=x", "in/b\u202e"]) == {"a\\x1b[2J\\n": "x", "b\\u202e": "in/b\u202e"}
    code, _, said = curate("dedup", "--pool=\x1b=x", "--pool=\\x1b=y", "--out=z.parquet")
    assert code == 2
    assert "two sets are named" in said


@pytest.mark.parametrize("name", ["no\x1b]0;x\x07\nsuch", "no\u202esuch", "no\udcffsuch"])
def test_a_line_is_a_line_whatever_it_names(curate: Run, tmp_path: Path, name: str) -> None:
    code, _, said = curate("dedup", f"--pool=p={tmp_path / name}", f"--out={tmp_path / 'x.parquet'}")
    assert code == 2
    (line,) = [line for line in said.splitlines() if ": error: " in line]
    assert line.startswith("curate: error: no folder or file at ")
    assert line.isprintable()
