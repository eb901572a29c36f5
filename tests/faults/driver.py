"""A process that has a tool imported and forks a child for every run of its command, with a fault in it.

Started once per tool by conftest.py: torch is imported once, not in each of a hundred runs. A line of JSON on stdin
asks for a run, which is answered by the child's process id, or for its end, which is its exit code.
"""

import ctypes
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = {
    "curate": "faiss jinja2 scipy.sparse.csgraph torchvision transformers.models.dinov2 datasets "
    "lvd_curate.models.encoders lvd_curate.pipeline lvd_curate.cli",
    "pretrain": "torchvision.io datasets lvd_pretrain.train lvd_pretrain.cli",
    "evaluate": "datasets transformers.models.dinov2 lvd_evaluate.benchmark lvd_evaluate.probes.knn "
    "lvd_evaluate.probes.segmentation lvd_evaluate.encoders.transformer_models lvd_evaluate.reporting.report "
    "lvd_evaluate.cli",
}
GIVEN, TAKEN = ("rename", "replace", "symlink", "link"), ("unlink", "remove", "rmdir")  # what changes a file's name


def place_of(name: Any, folder: int | None) -> str:
    """The path that a change gives or takes away."""
    name = os.fsdecode(name)
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name) if folder is not None else os.path.abspath(name)


def at_each_change(under: str, event: Callable[[int, str], None]) -> None:
    """Call `event(number, "before" | "after")` around every change of names under a path."""
    numbers = itertools.count()

    def watched(real: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if not place_of(arguments[place], more.get("dir_fd")).startswith(under):
                return real(*arguments, **more)
            number = next(numbers)
            event(number, "before")
            try:
                return real(*arguments, **more)
            finally:
                event(number, "after")

        return call

    for place, names in enumerate((TAKEN, GIVEN)):
        for name in names:
            setattr(os, name, watched(getattr(os, name), place))


def arm(fault: dict[str, Any]) -> None:
    """Make ready what will go wrong in this process."""
    if "snapshots" in fault:  # what the disk holds at every instant at which a kill may find it
        parent = Path(fault["under"]).parent
        kept = Path(fault["snapshots"])

        def photograph(number: int, when: str) -> None:
            shutil.copytree(parent, kept / f"{number:03d}-{when}", symlinks=True)

        at_each_change(fault["under"], photograph)
    if "kill" in fault:
        at_each_change(fault["under"], lambda *at: at == tuple(fault["kill"]) and os.kill(os.getpid(), signal.SIGKILL))
    if "pause" in fault:  # until the test says go on

        def pause(number: int, when: str) -> None:
            if [number, when] == fault["pause"]:
                Path(fault["marker"]).touch()
                while Path(fault["marker"]).exists():
                    time.sleep(0.01)

        at_each_change(fault["under"], pause)
    if "clock" in fault:  # it goes back a day at the third look at it
        real, looks = time.time, itertools.count()
        time.time = lambda: real() - 86400 * (next(looks) > 2)
    if fault.get("unprivileged"):
        drop_privileges()


def drop_privileges() -> None:
    """Make permission bits count for root, too: without the capabilities to override and to search."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    override_and_search = 0b110
    if libc.capget(header, words) == 0:
        words[0] &= ~override_and_search
        assert libc.capset(header, words) == 0, os.strerror(ctypes.get_errno())


def mount_tmpfs(place: str, kilobytes: int, mounted: list[str]) -> int:
    """A disk of this size at `place`, for this process and its children alone; a second call changes its size.

    Only what was mounted here is ever changed: a disk that was there before is the machine's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, remount = 0x00020000, (1 << 14) | (1 << 18), 32
    if not mounted and (libc.unshare(new_namespace) or libc.mount(None, b"/", None, private, None)):
        return ctypes.get_errno()
    flags = remount if place in mounted else 0
    if libc.mount(b"tmpfs", place.encode(), b"tmpfs", flags, f"size={kilobytes}k,mode=755".encode()):
        return ctypes.get_errno()
    mounted.append(place)
    return 0


def run(tool: str, asked: dict[str, Any]) -> None:
    """One command, in the child that was forked for it."""
    os.setsid()
    said = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(asked["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 70
    try:
        if "python" in asked:
            exec(asked["python"], {})
        else:
            arm(asked["fault"])
            sys.argv = [tool, *asked["words"]]
            importlib.import_module(f"lvd_{tool}.cli").main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # as Python itself ends a program that raised
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        Path(asked["log"] + ".modules").write_text("\n".join(sys.modules))
        import multiprocessing.util

        multiprocessing.util._exit_function()  # what Python does at exit; a forked child skips it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def learn(log: Path) -> None:
    """Import what a run imported, for the runs after it."""
    if log.exists():
        for name in set(log.read_text().split()) - set(sys.modules):
            with suppress(Exception):  # made up by a library, or of use to one process alone
                importlib.import_module(name)


def wait(child: int, seconds: float) -> int | None:
    """A child's exit code, negative for a signal; None and its end when it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Serve until stdin ends."""
    tool, mounted = sys.argv[1], list[str]()
    for name in PRELOADED[tool].split():
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "tmpfs" in asked:
            answer: int | None = mount_tmpfs(*asked["tmpfs"], mounted)
        elif "wait" in asked:
            answer = wait(*asked["wait"])
            learn(Path(asked["log"] + ".modules"))
        else:
            answer = os.fork()
            if not answer:
                run(tool, asked)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
