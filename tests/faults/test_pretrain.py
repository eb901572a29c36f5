"""What pretrain does when something breaks: whatever it is, steps that were saved are kept and the run goes on."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import children, processes_of

TINY = [
    "precision=fp32",
    "log_every=1",
    "data.workers=0",
    "model.arch=vit_tiny",
    "model.width=32",
    "model.depth=2",
    "model.heads=2",
    "model.patch_size=8",
    "crops.global_size=32",
    "crops.local_size=16",
    "crops.local_number=2",
    "optim.batch_size=4",
    "optim.warmup=1",
    "optim.freeze_last_layer=1",
    "teacher.temperature_warmup=4",
    "optim.steps=2",
    "save.every=1",
    "save.keep=2",
    "trackers=[]",
]
HEADS = (
    "dino_head={prototypes: 64, hidden: 32, bottleneck: 16}",
    "ibot_head={prototypes: 48, hidden: 32, bottleneck: 16}",
)
MEASURED = ("images_per_second", "data_wait", "memory_gib")


@pytest.fixture(scope="module")
def tool(open_tool: Callable[[str], Any]) -> Any:
    return open_tool("pretrain")


@pytest.fixture(scope="module")
def words(pictures: Path) -> Callable[..., list[str]]:
    """`words(out, ...)`: the command."""
    return lambda out, *more: [*TINY, *HEADS, f"data.path={pictures / 'pool'}", f"out={out}", *more]


@pytest.fixture(scope="module")
def undisturbed(tool: Any, words: Any, root: Path) -> dict[str, Any]:
    out = root / "undisturbed/run"
    assert tool.run(*words(out)).code == 0
    return read_run(out)


def read_run(out: Path) -> dict[str, Any]:
    """Numbers and weights of a finished run, and the names of its files."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    numbers = [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
    weights = {name: (out / "model" / f"{name}.safetensors").read_bytes() for name in ("model", "heads")}
    return {"numbers": numbers, "files": sorted({path.name for path in out.rglob("*")} - {"step_00000001"}), **weights}


def expect_whole_models(out: Path, undisturbed: dict[str, Any]) -> None:
    """Every model that bears its name has all its files."""
    for model in out.glob("models/step_*"):
        assert {path.name for path in model.iterdir()} >= {"config.json", "model.safetensors", "training.json"}
        assert (model / "model.safetensors").stat().st_size == len(undisturbed["model"])


@pytest.mark.slow
def test_killed_before_or_after_any_change_of_a_name_it_goes_on_to_the_same_model(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], restore: Any
) -> None:
    out = place / "job/run"
    out.parent.mkdir()
    images = tool.crashes(out, *words(out, "save.keep=1"))
    assert len(images) >= 10
    for image in images:
        expect_whole_models(image / "run", undisturbed)
        restore(image, out.parent)
        ended = tool.run(*words(out))
        assert ended.code == 0, f"{image.name}: {ended.said}"
        again = read_run(out)
        assert [name for name in again if again[name] != undisturbed[name]] == [], f"{image.name}: {again['files']}"


def test_a_kill_while_a_model_is_published_again_leaves_a_whole_one(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], restore: Any
) -> None:
    out = place / "job/run"
    out.parent.mkdir()
    assert tool.run(*words(out)).code == 0
    shutil.rmtree(out / "checkpoints/step_00000002")  # as a kill between the model and its checkpoint leaves it
    replacing = 0
    for image in tool.crashes(out, *words(out)):
        expect_whole_models(image / "run", undisturbed)
        if list(image.rglob(".step_*.old")):
            replacing += 1
            restore(image, out.parent)
            assert tool.run(*words(out)).code == 0
            assert read_run(out)["files"] == undisturbed["files"], image.name
    assert replacing >= 2  # without the new one in place, and with it


def test_a_disk_that_fills_up_is_one_line_at_every_size_and_with_room_it_goes_on(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any]
) -> None:
    disk = tool.disk(place / "disk", 4)
    lines = []
    for kilobytes in (4, 16, 300, 600, 1200, 1800, 2100):
        tool.disk(place / "disk", kilobytes)
        ended = tool.run(*words(place / "disk/run"))
        if ended.code == 0:
            break
        lines.append(ended.line())
        assert str(place / "disk") in lines[-1]
        assert "No space left" in lines[-1] or "could not be written" in lines[-1]
        expect_whole_models(disk / "run", undisturbed)
    assert len(lines) >= 4, lines
    tool.disk(place / "disk", 8000)
    assert tool.run(*words(place / "disk/run")).code == 0
    assert read_run(disk / "run") == undisturbed


def test_a_data_worker_that_is_killed_is_one_line_and_the_run_goes_on(
    tool: Any, words: Any, place: Path, until: Any
) -> None:
    out, steps = place / "run", ("data.workers=1", "optim.steps=2000", "save.every=5")
    started = tool.start(*words(out, *steps))
    until(lambda: list(out.glob("checkpoints/step_*")))
    for worker in children(started[0]):
        os.kill(worker, signal.SIGKILL)
    assert "a data worker was killed" in tool.wait(started).line()
    saved = max(path.name for path in out.glob("checkpoints/step_*"))
    again = tool.start(*words(out, *steps))
    until(lambda: "going on from" in again[1].read_text())
    os.kill(again[0], signal.SIGTERM)
    assert saved in tool.wait(again).said


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_one_save_and_none_is_passed_over_in_silence(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path, damage: str
) -> None:
    for file in ("state.json", ".metadata", "__0_0.distcp"):
        out = place / file / "run"
        shutil.copytree(root / "undisturbed/run", out, symlinks=True)
        newest = out / "checkpoints/step_00000002"
        DAMAGES[damage](newest / file)
        ended = tool.run(*words(out))
        assert ended.code == 0, ended.said
        assert f"passing over {newest}: {file}" in ended.said
        assert "going on from" in ended.said
        assert "(1 of 2 steps done)" in ended.said
        assert read_run(out) == undisturbed
    for checkpoint in out.glob("checkpoints/step_*"):
        DAMAGES[damage](checkpoint / file)
    before = (out / "metrics.jsonl").read_bytes()
    line = tool.run(*words(out)).line()
    assert "no checkpoint is whole" in line
    assert "out=" in line
    assert (out / "metrics.jsonl").read_bytes() == before, "nothing was begun anew"


def test_bytes_that_changed_inside_a_checkpoint_say_what_to_remove(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path
) -> None:
    out = place / "run"
    shutil.copytree(root / "undisturbed/run", out, symlinks=True)
    newest = out / "checkpoints/step_00000002"
    (newest / ".metadata").write_bytes(bytes((newest / ".metadata").stat().st_size))
    line = tool.run(*words(out)).line()
    assert f"checkpoint {newest} cannot be read" in line
    assert "remove that folder to go on from the one before it" in line
    shutil.rmtree(newest)
    assert tool.run(*words(out)).code == 0
    assert read_run(out) == undisturbed


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b"\xff\xfe\n", b"3\n"])
def test_a_line_that_a_power_cut_tore_is_dropped(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path, torn: bytes
) -> None:
    out = place / "run"
    shutil.copytree(root / "undisturbed/run", out, symlinks=True)
    shutil.rmtree(out / "checkpoints/step_00000002")
    lines = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (out / "metrics.jsonl").write_bytes(lines[0] + torn)
    ended = tool.run(*words(out))
    assert ended.code == 0, ended.said
    assert read_run(out) == undisturbed


def test_a_dataset_cut_short_is_named(tool: Any, words: Any, place: Path, pictures: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((pictures / "pool").iterdir())
    shard = place / "dataset/data/train-00000-of-00001.parquet"
    shard.parent.mkdir(parents=True)
    pq.write_table(pa.table({"image": [{"bytes": file.read_bytes(), "path": file.name} for file in files]}), shard)
    whole, given = shard.read_bytes(), words(place / "run", f"data.path={place / 'dataset'}", "optim.steps=1")
    shard.write_bytes(whole[:-100])
    assert f"data.path={place / 'dataset'}" in tool.run(*given).line()
    shard.write_bytes(whole[:4] + bytes(len(whole) - 2000) + whole[len(whole) - 1996 :])
    assert f"data.path={place / 'dataset'}" in tool.run(*given).line()


def test_without_permission_it_is_one_line(tool: Any, words: Any, place: Path, pictures: Path) -> None:
    closed = place / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    assert f"{closed}/run" in tool.run(*words(closed / "run"), unprivileged=True).line()
    unreadable = place / "pictures"
    shutil.copytree(pictures / "pool", unreadable)
    for file in unreadable.iterdir():
        file.chmod(0)
    line = tool.run(*words(place / "run", f"data.path={unreadable}"), unprivileged=True).line()
    assert "images in a row could not be read" in line
    unreadable.chmod(0)
    line = tool.run(*words(place / "run", f"data.path={unreadable}"), unprivileged=True).line()
    assert f"data.path={unreadable}" in line
    unreadable.chmod(0o755)


def test_without_a_home_to_write_to_it_trains(tool: Any, words: Any, place: Path, undisturbed: dict[str, Any]) -> None:
    home = place / "home"
    home.mkdir()
    home.chmod(0o555)
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(home)) | {"HF_HOME": str(home / "hf")}
    ended = tool.run(*words(place / "run"), environment=homes, unprivileged=True)
    assert ended.code == 0, ended.said
    assert read_run(place / "run") == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)])
def test_signals_end_it_with_what_is_saved_and_nobody_left_behind(
    tool: Any, words: Any, place: Path, until: Any, number: int, code: int
) -> None:
    out = place / "run"
    shared = tool.disk(Path("/dev/shm"), 1 << 16)
    started = tool.start(*words(out, "optim.steps=2000", "save.every=5", "data.workers=1"))
    until(lambda: list(out.glob("checkpoints/step_*")))
    os.kill(started[0], number)
    ended = tool.wait(started)
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    assert not processes_of(started[0])
    assert os.listdir(shared) == []
    if number != signal.SIGINT:
        assert f"stopped by {signal.Signals(number).name}" in ended.said


def test_a_second_run_is_refused_and_the_first_unharmed(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, Any]
) -> None:
    out, marker = place / "run", place / "paused"
    first = tool.start(*words(out), pause=[4, "before"], marker=str(marker), under=str(out))
    until(marker.exists)
    assert f"{out}: another run is training here" in tool.run(*words(out)).line()
    marker.unlink()
    assert tool.wait(first).code == 0
    assert read_run(out) == undisturbed


def test_a_clock_that_goes_back_and_files_of_tomorrow_change_nothing(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path
) -> None:
    out = place / "run"
    shutil.copytree(root / "undisturbed/run", out, symlinks=True)
    shutil.rmtree(out / "checkpoints/step_00000002")
    for file in out.rglob("*"):
        os.utime(file, (time.time() + 86400,) * 2, follow_symlinks=False)
    ended = tool.run(*words(out), clock=True)
    assert ended.code == 0, ended.said
    assert "(1 of 2 steps done)" in ended.said
    assert read_run(out) == undisturbed
