"""SIGKILL at twenty random moments over all stages: the same command then ends in the very same bytes."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trees import read_tree

KILLS = 20

# One process that has everything imported forks a child per run: twenty starts of torch would take minutes. Each child
# dies at its own system call: the N-th that makes, syncs, renames or removes a file.
RUNS = """
import json, os, signal, sys
import datasets, faiss, jinja2, scipy.sparse.csgraph, torch, torchvision, transformers
import lvd_curate.models.encoders, lvd_curate.pipeline
from lvd_curate.config import build_config
from lvd_curate.recipes import BuildConfig

calls = 0

def counted(real, number):
    def call(*arguments, **more):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call

def run(number, out, words, sets):
    if os.fork() == 0:
        for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name), number))
        config = build_config(BuildConfig, None, words, sets)
        built = lvd_curate.pipeline.build_lvd(config, lvd_curate.pipeline.Path(out))
        with open(out + ".calls", "w") as told:
            told.write(str(calls))
        os._exit(0 if built else 4)
    return os.waitstatus_to_exitcode(os.wait()[1])

lvd_curate.models.encoders.load_encoder(sys.argv[1], "cpu")
for line in sys.stdin:
    print(run(*json.loads(line)), flush=True)
"""


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(
    world_sets: dict[str, dict[str, str]], encoder: Path, tmp_path: Path
) -> None:
    words = [f"embed.encoder={encoder}", f"deduplicate.encoder={encoder}", "deduplicate.threshold=0.999"]
    words += ["decontaminate.threshold=0.999", "execution.engine=inline", "execution.device=cpu"]
    words += ["rebalance.target_size=6", "rebalance.levels=[3,2]"]
    draw = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, str(encoder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None

        def run(number: int | None, out: Path) -> int:
            out.parent.mkdir(exist_ok=True)
            print(json.dumps([number, str(out), words, world_sets]), file=forks.stdin, flush=True)  # type: ignore[arg-type]
            return int(forks.stdout.readline())  # type: ignore[union-attr]

        assert run(None, tmp_path / "whole/out") == 0
        expected = read_tree(tmp_path / "whole/out")
        calls, stages = int((tmp_path / "whole/out.calls").read_text()), set()
        for kill in range(KILLS):
            out = tmp_path / str(kill) / "out"
            number = draw.randrange(1 + kill * calls // KILLS, 1 + (kill + 1) * calls // KILLS)
            assert run(number, out) == -signal.SIGKILL, f"call {number} of {calls}"
            published = out.exists()
            assert published == (number == calls)  # the last call only syncs the name that the rename before it gave
            stages |= {path.name.partition("-")[0].partition(".")[0] for path in (out.parent / "out.work").iterdir()}
            assert run(None, out) == (4 if published else 0)
            assert read_tree(out) == expected, f"killed at call {number} of {calls}"
        forks.stdin.close()
    assert {"listing", "screen", "embed", "deduplicate", "cluster", "retrieve", "rebalance", "dataset"} <= stages
