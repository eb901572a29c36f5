"""What curate does when something breaks: finished work is kept, and the same command ends in the same bytes."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.faults.processes import children
from tests.trees import read_tree


@pytest.fixture(scope="module")
def tool(open_tool: Callable[[str], Any]) -> Any:
    return open_tool("curate")


@pytest.fixture(scope="module")
def words(pictures: Path, model: Callable[[Any], Path], tool: Any) -> Callable[..., list[str]]:
    """`words(out, ...)`: the command."""
    sets = [f"--{option}={option}={pictures / option}" for option in ("pool", "seeds", "exclude")]
    knobs = [f"embed.encoder={model(tool)}", "execution.engine=inline", "execution.device=cpu", "retrieve.neighbours=1"]
    return lambda out, *more: ["build-lvd", *sets, f"--out={out}", *knobs, *more]


@pytest.fixture(scope="module")
def undisturbed(tool: Any, words: Any, root: Path) -> dict[str, bytes]:
    out = root / "curated/out"
    out.parent.mkdir()
    ended = tool.run(*words(out))
    assert ended.code == 0, ended.said
    return read_tree(out)


@pytest.mark.slow
def test_killed_after_a_change_of_a_name_it_goes_on_to_the_same_bytes(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, bytes], restore: Any
) -> None:
    """Every eighth of them: before each rename is tests/curate/test_restarts.py."""
    out = place / "job/out"
    out.parent.mkdir()
    images = [image for image in tool.crashes(out, *words(out)) if image.name.endswith("after")]
    assert len(images) >= 40
    for image in images[::8]:
        assert not (image / "out").exists() or read_tree(image / "out") == undisturbed
        restore(image, out.parent)
        ended = tool.run(*words(out))
        assert ended.code == 0, f"{image.name}: {ended.said}"
        assert read_tree(out) == undisturbed, image.name


def test_a_disk_that_fills_up_is_one_line_with_the_path_and_with_room_it_goes_on(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, bytes]
) -> None:
    disk = tool.disk(place / "disk", 4)
    lines, kept = [], 0
    for kilobytes in (4, 48, 80, 112, 176, 240):
        tool.disk(place / "disk", kilobytes)
        ended = tool.run(*words(place / "disk/out"))
        if ended.code == 0:
            break
        lines.append(ended.line())
        assert str(place / "disk/out") in lines[-1]
        assert "No space left" in lines[-1]
        assert not (disk / "out").exists()
        finished = len([path for path in disk.glob("out.work/*-*") if not path.name.endswith(".partial")])
        assert finished >= kept, "finished work is kept"
        kept = finished
    assert len(lines) >= 4, lines
    tool.disk(place / "disk", 8000)
    assert tool.run(*words(place / "disk/out")).code == 0
    assert read_tree(disk / "out") == undisturbed


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_none_outlives_the_command(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, bytes]
) -> None:
    out = place / "out"
    shared = tool.disk(Path("/dev/shm"), 1 << 16)
    several = [word for word in words(out) if "engine" not in word] + ["execution.workers=2"]
    started = tool.start(*several)
    until(lambda: workers(started[0]))
    os.kill(workers(started[0])[0], signal.SIGKILL)
    ended = tool.wait(started)
    assert ended.code == 0, ended.said
    assert read_tree(out) == undisturbed
    again = tool.start(*(word.replace(str(out), str(place / "other")) for word in several))
    until(lambda: workers(again[0]))
    left = workers(again[0])
    os.kill(again[0], signal.SIGTERM)
    assert tool.wait(again).code in (143, -signal.SIGTERM)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in left), 10)
    assert os.listdir(shared) == []


def workers(parent: int) -> list[int]:
    """The processes that work on shards for this one."""
    return [child for child in children(parent) if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "missing": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_artifacts_are_built_again_each_with_a_line(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, bytes], root: Path, damage: str
) -> None:
    out, work = place / "out", place / "out.work"
    shutil.copytree(root / "curated/out.work", work)
    artifacts = [path for path in sorted(work.iterdir()) if path.is_dir()]
    assert len(artifacts) >= 7
    for number, artifact in enumerate(artifacts):
        files = sorted(path for path in artifact.rglob("*") if path.suffix in (".parquet", ".npy"))
        DAMAGES[damage](files[number % len(files)])
    ended = tool.run(*words(out))
    assert ended.code == 0, ended.said
    word = "incomplete" if damage == "missing" else "damaged"  # which a user reads as: the disk
    assert [path.name for path in artifacts if f"{path}: {word} (" not in ended.said] == []
    assert read_tree(out) == undisturbed


def test_a_damaged_lineage_is_named(tool: Any, place: Path, root: Path, undisturbed: dict[str, bytes]) -> None:
    out = place / "out"
    for damaged in (undisturbed["lineage.parquet"][:-20], b"", b"PAR1" + bytes(200)):
        shutil.copytree(root / "curated/out", out)
        (out / "lineage.parquet").write_bytes(damaged)
        for command in (["explain", out, "pool/1.jpg"], ["report", out]):
            line = tool.run(*command).line()
            assert str(out) in line
            assert "damaged" in line
        shutil.rmtree(out)


def test_without_permission_it_is_one_line_and_a_file_that_cannot_be_read_a_row(
    tool: Any, words: Any, place: Path, pictures: Path
) -> None:
    closed = place / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    assert f"{closed}/out" in tool.run(*words(closed / "out"), unprivileged=True).line()
    pool = place / "pool"
    shutil.copytree(pictures / "pool", pool)
    (pool / "3.jpg").chmod(0)
    given = [word for word in words(place / "out") if not word.startswith("--pool")] + [f"--pool=pool={pool}"]
    assert tool.run(*given, unprivileged=True).code == 0
    row = pl.read_parquet(place / "out/lineage.parquet").filter(pl.col("path") == "3.jpg").row(0, named=True)
    assert row["status"] == "dropped"
    assert "Permission denied" in row["reason"]
    (pool / "inner").mkdir()
    (pool / "inner").chmod(0)
    given = [word for word in given if not word.startswith("--out")] + [f"--out={place / 'other'}"]
    assert f"{pool / 'inner'}/ may not be read" in tool.run(*given, unprivileged=True).line()
    (pool / "inner").chmod(0o755)


def test_without_a_home_to_write_to_it_builds(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, bytes]
) -> None:
    home = place / "home"
    home.mkdir()
    home.chmod(0o555)
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(home)) | {"HF_HOME": str(home / "hf")}
    ended = tool.run(*words(place / "out"), environment=homes, unprivileged=True)
    assert ended.code == 0, ended.said
    assert read_tree(place / "out") == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_with_what_is_finished(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, bytes], number: int, code: int
) -> None:
    out, marker = place / "out", place / "paused"
    started = tool.start(*words(out), pause=[20, "after"], marker=str(marker), under=str(out))
    until(marker.exists)
    os.kill(started[0], number)
    ended = tool.wait(started)
    assert ended.code in (code, -number), ended.said
    assert "Traceback" not in ended.said
    assert [path for path in (place / "out.work").glob("*-*") if not path.name.endswith(".partial")]
    assert tool.run(*words(out)).code == 0
    assert read_tree(out) == undisturbed


def test_a_second_command_is_refused_and_the_first_unharmed(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, bytes]
) -> None:
    out, marker = place / "out", place / "paused"
    first = tool.start(*words(out), pause=[20, "before"], marker=str(marker), under=str(out))
    until(marker.exists)
    assert f"{out}.work: another run is building this dataset" in tool.run(*words(out)).line()
    marker.unlink()
    assert tool.wait(first).code == 0
    assert read_tree(out) == undisturbed


def test_a_clock_that_goes_back_and_files_of_tomorrow_change_nothing(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, bytes], root: Path
) -> None:
    shutil.copytree(root / "curated/out.work", place / "out.work")
    for file in place.rglob("*"):
        os.utime(file, (time.time() + 86400,) * 2)
    assert tool.run(*words(place / "out"), clock=True).code == 0
    assert read_tree(place / "out") == undisturbed
