"""Three tools, one harness: the smallest job of each, run by its command with a fault in it.

What breaks is tested here for all three alike: kills at every change of a name, full disks, lost workers, damaged
files, missing permissions, signals, clocks, a second run. Kills of whole processes at moments that nobody chose, lost
ranks and single functions are tested beside the code: tests/curate/test_kill_points.py and test_restarts.py,
tests/curate/engine/test_executors.py, tests/pretrain/test_train.py and test_two_processes.py,
tests/evaluate/test_benchmark.py and test_features.py.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

pytest.register_assert_rewrite("tests.faults.results")  # what it holds to be whole, it shows where it is not

MODEL = """
import torch
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model
torch.manual_seed(0)
shape = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14)
Dinov2Model(Dinov2Config(**shape)).save_pretrained("{0}")
BitImageProcessor(size=dict(shortest_edge=28), crop_size=dict(height=28, width=28)).save_pretrained("{0}")
"""


class Ended(NamedTuple):
    """What came of a run."""

    code: int | None  # negative: the signal that ended it; None: it did not end
    said: str  # on both streams

    def line(self) -> str:
        """The one line of an error that the user is to mend; anything else fails, and shows what was said."""
        assert self.code == 2, self.said
        assert "Traceback" not in self.said, self.said
        lines = [line for line in self.said.splitlines() if ": error: " in line]
        assert len(lines) == 1, self.said
        return lines[0]


def fingerprint_tree(folder: Path) -> str:
    """Hash of names and contents, whatever the process that wrote a file called it meanwhile."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(re.sub(r"\.\d+\.(tmp|partial)$", "", str(path.relative_to(folder))).encode())
        digest.update(os.readlink(path).encode() if path.is_symlink() else b"")
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def put_back(image: Path, place: Path) -> None:
    """Make a folder what it was."""
    shutil.rmtree(place)
    shutil.copytree(image, place, symlinks=True)


@dataclass
class Tool:
    """One of the three commands, imported once; each run is a forked child."""

    name: str
    root: Path  # that every user may search
    process: "subprocess.Popen[str]"
    environment: dict[str, str]
    runs: int = 0

    def ask(self, **asked: Any) -> Any:
        """One line there, one back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, *words: object, environment: dict[str, str] | None = None, **fault: Any) -> tuple[int, Path]:
        """Start the command; returns its process and the file of what it says."""
        self.runs += 1
        log = self.root / f"{self.name}-{self.runs}.log"
        log.touch()
        around = self.environment | (environment or {})
        return self.ask(words=list(map(str, words)), log=str(log), environment=around, fault=fault), log

    def wait(self, started: tuple[int, Path], seconds: float = 120) -> Ended:
        """Wait for a run's end."""
        code = self.ask(wait=[started[0], seconds], log=str(started[1]))
        return Ended(code, started[1].read_text())

    def run(self, *words: object, **more: Any) -> Ended:
        """Run the command to its end."""
        return self.wait(self.start(*words, **more))

    def crashes(self, out: Path, *words: object) -> list[Path]:
        """What a kill may leave of `out` and what lies beside it: before and after every change of a file's name.

        The page cache outlives a killed process, so a copy of the files is just what the next run finds. Equal ones
        are kept once. `restore` (a fixture) puts one of them back.
        """
        kept = Path(tempfile.mkdtemp(dir=self.root))
        ended = self.run(*words, snapshots=str(kept), under=str(out))
        assert ended.code == 0, ended.said
        found = {fingerprint_tree(image): image for image in sorted(kept.iterdir(), reverse=True)}
        return sorted(found.values())

    def python(self, code: str) -> str:
        """Run code where the tool's libraries are imported; returns what it said."""
        self.runs += 1
        log = self.root / f"{self.name}-{self.runs}.log"
        ended = self.wait((self.ask(python=code, log=str(log), environment=self.environment), log))
        assert ended.code == 0, ended.said
        return ended.said

    def disk(self, place: Path, kilobytes: int) -> Path:
        """A disk of this size at `place`, seen by this tool alone; returns where the test finds its files."""
        place.mkdir(exist_ok=True)
        number = self.ask(tmpfs=[str(place), kilobytes])
        if number:
            pytest.skip(f"this user may not mount a small disk: {os.strerror(number)}")
        return Path(f"/proc/{self.process.pid}/root{place}")


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """A folder outside of pytest's own, which only its owner may search."""
    folder = Path(tempfile.mkdtemp(prefix="lvd-faults-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def open_tool(root: Path) -> Iterator[Callable[[str], Tool]]:
    """`open_tool("curate")`: the tool, imported and waiting."""
    opened: dict[str, Tool] = {}
    home = root / "home"
    home.mkdir()
    quiet = {"HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    quiet |= {"COLUMNS": "200", "MPLCONFIGDIR": str(home / "mpl")}

    def build(name: str) -> Tool:
        if name not in opened:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py")), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **quiet},
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            opened[name] = Tool(name, root, process, {})
        return opened[name]

    yield build
    for tool in opened.values():
        assert tool.process.stdin is not None
        tool.process.stdin.close()
        assert tool.process.wait(60) == 0


def draw(seed: int, tint: int = 0) -> bytes:
    """A JPEG of coloured clouds, no two alike; its class shows in the mean colour."""
    noise = np.random.default_rng(seed).integers(0, 160, (6, 8, 3))
    noise[..., tint] += 90
    buffer = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).resize((72, 56), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pictures(root: Path) -> Path:
    """pool/ (14), seeds/ (4) and exclude/ (3) for curate, classes/ of two splits for evaluate, pool/ for pretrain."""
    folder = root / "pictures"
    sets = {"pool": range(14), "seeds": range(100, 104), "exclude": range(200, 203)}
    for name, seeds in sets.items():
        (folder / name).mkdir(parents=True)
        for seed in seeds:
            (folder / name / f"{seed}.jpg").write_bytes(draw(seed, seed % 3))
    for split, start in (("train", 300), ("test", 400)):
        for seed in range(start, start + 8):
            where = folder / "classes" / split / ("red" if seed % 2 else "blue")
            where.mkdir(parents=True, exist_ok=True)
            (where / f"{seed}.jpg").write_bytes(draw(seed, 0 if seed % 2 else 2))
    return folder


@pytest.fixture(scope="session")
def model(root: Path) -> Callable[[Tool], Path]:
    """`model(tool)`: a Model v1 folder of random weights."""

    def write(tool: Tool) -> Path:
        folder = root / "model"
        if not folder.exists():
            tool.python(MODEL.format(folder))
        return folder

    return write


@pytest.fixture
def place(root: Path) -> Iterator[Path]:
    """An empty folder for one test."""
    folder = Path(tempfile.mkdtemp(dir=root))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def restore() -> Callable[[Path, Path], None]:
    return put_back


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return wait_until
