"""What evaluate does when something breaks: rows and features that were finished are kept, and the command goes on."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.faults.processes import processes_below
from tests.faults.results import expect_whole, read_results


@pytest.fixture(scope="module")
def tool(open_tool: Callable[[str], Any]) -> Any:
    return open_tool("evaluate")


@pytest.fixture(scope="module")
def words(pictures: Path, model: Callable[[Any], Path], tool: Any) -> Callable[..., list[str]]:
    """`words(out, ...)`: the command."""
    given = ["knn", f"--ckpt={model(tool)}", f"--data={pictures / 'classes'}", "--baseline=pixels:8", "bootstrap=100"]
    return lambda out, *more: [*given, f"--out={out}", "features.shard_size=5", "knn.neighbours=[3]", *more]


@pytest.fixture(scope="module")
def undisturbed(tool: Any, words: Any, root: Path) -> dict[str, Any]:
    out = root / "measured/out"
    assert tool.run(*words(out)).code == 0
    return read_results(out)


@pytest.mark.slow
def test_killed_before_or_after_any_change_of_a_name_it_goes_on_to_the_same_values(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], restore: Any
) -> None:
    out = place / "job/out"
    out.parent.mkdir()
    images = tool.crashes(out, *words(out))
    assert len(images) >= 20
    for image in images:
        expect_whole(image / "out")
    for image in images[::2]:
        restore(image, out.parent)
        ended = tool.run(*words(out))
        assert ended.code == 0, f"{image.name}: {ended.said}"
        assert read_results(out) == undisturbed, image.name


def test_a_disk_that_fills_up_is_one_line_with_the_path_and_with_room_it_goes_on(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any]
) -> None:
    disk = tool.disk(place / "disk", 4)
    lines = []
    for kilobytes in (4, 24, 72, 96, 144, 240, 300):
        tool.disk(place / "disk", kilobytes)
        ended = tool.run(*words(place / "disk/out"))
        if ended.code == 0:
            break
        lines.append(ended.line())
        assert f"{place / 'disk/out'}" in lines[-1]
        assert "No space left" in lines[-1]
        expect_whole(disk / "out")
    assert len(lines) >= 4, lines
    tool.disk(place / "disk", 8000)
    assert tool.run(*words(place / "disk/out")).code == 0
    assert read_results(disk / "out")["rows"] == undisturbed["rows"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_shard_of_features_is_computed_again_with_a_line(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path, damage: str
) -> None:
    out = place / "out"
    shutil.copytree(root / "measured/out", out)
    shutil.rmtree(out / "predictions")  # so that the features are read again
    file = sorted(out.glob("features/*/rows-*/cls.npy"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    damages: dict[str, Callable[[], Any]] = {
        "flipped": lambda: file.write_bytes(content),
        "cut": lambda: file.write_bytes(content[:-1]),
        "missing": file.unlink,
    }
    damages[damage]()
    ended = tool.run(*words(out))
    assert ended.code == 0, ended.said
    assert f"{file.parent}: damaged (" in ended.said
    assert read_results(out)["features"] == undisturbed["features"]
    assert read_results(out)["rows"] == undisturbed["rows"]


@pytest.mark.parametrize("damage", ["flipped", "empty"])
def test_damaged_predictions_are_measured_again_with_a_line(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path, damage: str
) -> None:
    out = place / "out"
    shutil.copytree(root / "measured/out", out)
    for file in out.glob("predictions/*.npz"):
        content = bytearray(file.read_bytes())
        content[60] ^= 1
        file.write_bytes({"flipped": content, "empty": b""}[damage])
    ended = tool.run(*words(out))
    assert ended.code == 0, ended.said
    assert "damaged" in ended.said
    assert read_results(out)["rows"] == undisturbed["rows"]


@pytest.mark.parametrize("torn", [b'{"run": "x', b"\xff\xfe\n"])
def test_a_torn_row_is_named_with_its_line_and_nothing_is_lost(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path, torn: bytes
) -> None:
    out = place / "out"
    shutil.copytree(root / "measured/out", out)
    results = out / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole + torn)
    line = tool.run(*words(out)).line()
    assert f"{results} line {len(whole.splitlines()) + 1}" in line
    assert "take the line out" in line
    results.write_bytes(whole)
    assert tool.run(*words(out)).code == 0
    assert read_results(out)["rows"] == undisturbed["rows"]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_model_cut_short_is_named(
    tool: Any, words: Any, place: Path, model: Callable[[Any], Path], file: str, share: float
) -> None:
    folder = place / "model"
    shutil.copytree(model(tool), folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(len(content) * share)])
    line = tool.run(*words(place / "out", f"--ckpt={folder}")).line()
    assert str(folder) in line


def test_a_dataset_cut_short_is_named(tool: Any, words: Any, place: Path) -> None:
    for split in ("train", "test"):
        (place / split).mkdir()
        (place / split / "part.parquet").write_bytes(b"PAR1" + bytes(999))
    line = tool.run(*words(place / "out", f"--data={place}")[:2], f"--data={place}", f"--out={place / 'out'}").line()
    assert f"{place}" in line


def test_without_permission_it_is_one_line(tool: Any, words: Any, place: Path, pictures: Path) -> None:
    closed = place / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    assert f"{closed}/out" in tool.run(*words(closed / "out"), unprivileged=True).line()
    unreadable = place / "classes"
    shutil.copytree(pictures / "classes", unreadable)
    for file in unreadable.rglob("*.jpg"):
        file.chmod(0)
    given = [word for word in words(place / "out") if not word.startswith("--data")]
    line = tool.run(*given, f"--data={unreadable}", unprivileged=True).line()
    assert str(unreadable) in line
    assert "Permission denied" in line
    (unreadable / "train").chmod(0)
    assert str(unreadable) in tool.run(*given, f"--data={unreadable}", unprivileged=True).line()
    (unreadable / "train").chmod(0o755)


def test_without_a_home_to_write_to_it_measures(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any]
) -> None:
    home = place / "home"
    home.mkdir()
    home.chmod(0o555)
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(home)) | {"HF_HOME": str(home / "hf")}
    ended = tool.run(*words(place / "out"), environment=homes, unprivileged=True)
    assert ended.code == 0, ended.said
    assert read_results(place / "out")["rows"] == undisturbed["rows"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_with_what_is_finished(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, Any], number: int, code: int
) -> None:
    out, marker = place / "out", place / "paused"
    started = tool.start(*words(out), pause=[12, "after"], marker=str(marker), under=str(out))
    until(marker.exists)
    os.kill(started[0], number)
    ended = tool.wait(started)
    assert ended.code in (code, -number), ended.said
    assert "Traceback" not in ended.said
    assert list(out.glob("features/*/rows-*"))
    expect_whole(out)
    assert tool.run(*words(out)).code == 0
    assert read_results(out)["rows"] == undisturbed["rows"]


def test_a_second_command_is_refused_and_the_first_unharmed(
    tool: Any, words: Any, place: Path, until: Any, undisturbed: dict[str, Any]
) -> None:
    out, marker = place / "out", place / "paused"
    first = tool.start(*words(out), pause=[6, "before"], marker=str(marker), under=str(out))
    until(marker.exists)
    assert f"{out}: another command is writing here" in tool.run(*words(out)).line()
    marker.unlink()
    assert tool.wait(first).code == 0
    assert read_results(out)["rows"] == undisturbed["rows"]


def test_a_clock_that_goes_back_and_files_of_tomorrow_change_nothing(
    tool: Any, words: Any, place: Path, undisturbed: dict[str, Any], root: Path
) -> None:
    out = place / "out"
    shutil.copytree(root / "measured/out", out)
    shutil.rmtree(out / "predictions")
    for file in out.rglob("*"):
        os.utime(file, (time.time() + 86400,) * 2)
    assert tool.run(*words(out), clock=True).code == 0
    assert read_results(out)["rows"] == undisturbed["rows"]
    assert read_results(out)["features"] == undisturbed["features"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_processes_that_read_images_end_with_the_command(
    tool: Any, model: Callable[[Any], Path], place: Path, until: Any, number: int, code: int
) -> None:
    for split in ("train", "val"):
        for kind, shape in (("images", (40, 40, 3)), ("masks", (40, 40))):
            (place / split / kind).mkdir(parents=True)
            for row in range(4):
                pixels = np.random.default_rng(row + 4 * (split == "val")).integers(0, 3, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(place / split / kind / f"{row}.png")
    given = ["segmentation", f"--ckpt={model(tool)}", f"--data={place}", "--baseline=none", f"--out={place / 'out'}"]
    sizes = [f"segmentation.linear.{key}={value}" for key, value in {"resize": 28, "crop": 28, "stride": 14}.items()]
    started = tool.start(*given, *sizes, "segmentation.workers=2", "segmentation.steps=1000000")

    def watching() -> list[int]:  # both workers, once each looks after its parent in a thread of its own
        return [other for other in processes_below(started[0]) if len(list(Path(f"/proc/{other}/task").glob("*"))) > 1]

    until(lambda: len(watching()) == 2)
    others = processes_below(started[0])  # the tracker of semaphores and the server, too
    os.kill(started[0], number)
    ended = tool.wait(started)
    assert ended.code == code, ended.said
    until(lambda: not any(Path(f"/proc/{other}").exists() for other in others), seconds=20)
    assert "Traceback" not in ended.said
    assert number == signal.SIGKILL or "leaked" not in Path(started[1]).read_text()
