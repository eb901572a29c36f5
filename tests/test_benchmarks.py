"""The benchmarks' one entry: nothing is left out in silence, and what was measured is written down whole."""

import argparse
import ast
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import run, turns
from benchmarks.catalogue import CATALOGUE, Benchmark
from benchmarks.rows import contestant_table, newest, read_lines, target_table

ROOT = Path(__file__).parents[1]
NAMES = {each.name for each in CATALOGUE}


def entry(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.run", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def imported(file: Path) -> set[str]:
    """Names of a file's imports, `module` or `module.name`."""
    tree = ast.walk(ast.parse(file.read_text()))
    names = set()
    for node in tree:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_that_records_is_in_the_catalogue_and_every_entry_is_a_module():
    files = [file for file in (ROOT / "benchmarks").glob("*/*.py") if "benchmarks.turns.record" in imported(file)]
    assert {f"{file.parent.name}/{file.stem}" for file in files} <= NAMES
    assert len(NAMES) == len(CATALOGUE)
    for name in NAMES:
        assert '__name__ == "__main__"' in (ROOT / f"benchmarks/{name}.py").read_text(), name


@pytest.mark.parametrize("name", ["catalogue", "rows", "run", "turns"])
def test_the_harness_needs_the_standard_library_alone(name):
    roots = {word.split(".")[0] for word in imported(ROOT / f"benchmarks/{name}.py")}
    assert roots <= set(sys.stdlib_module_names) | {"benchmarks"}


def test_a_peers_script_imports_nothing_of_ours():
    for file in (ROOT / "benchmarks/peers").glob("*.py"):
        assert not any(name.startswith("lvd_") for name in imported(file)), file.name


def test_the_list_names_all_and_says_what_keeps_one_from_running():
    shown = entry("--list")
    assert shown.returncode == 0, shown.stderr
    assert {line.split()[0] for line in shown.stdout.splitlines()} == {each.name for each in CATALOGUE if not each.gpu}
    assert "DATA=" in next(line for line in shown.stdout.splitlines() if line.startswith("pretrain/released_weights"))


def test_a_trial_writes_a_whole_line_where_it_was_told_to(tmp_path):
    committed = (ROOT / "benchmarks/results").glob("*.jsonl")
    before = {file: file.read_bytes() for file in committed}
    shown = entry("--quick", "--results", tmp_path, "start/help")
    assert shown.returncode == 0, shown.stderr
    (text,) = (tmp_path / "start.jsonl").read_text().splitlines()
    line = json.loads(text)
    assert line["targets"]
    assert {"benchmark", "date", "machine", "load", "versions"} <= set(line)
    assert all(target["what"] in shown.stdout for target in line["targets"])
    assert before == {file: file.read_bytes() for file in before}
    rows = entry("--rows", "--results", tmp_path).stdout.splitlines()
    assert rows[4].startswith("| `start.help` |")


def test_an_unknown_name_is_refused_with_the_nearest():
    shown = entry("pretrain/fused_loses")
    assert shown.returncode != 0
    assert "pretrain/fused_losses" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_without_a_gpu_the_way_out_is_named(monkeypatch, capsys):
    monkeypatch.setattr(run, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks.run", "--gpu"])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert "--dry-run" in str(stopped.value)


@pytest.mark.parametrize(
    ("benchmark_", "said"),
    [
        (Benchmark(name="x/y", minutes=1, words="{shared}/data/photographs.parquet"), "DATA="),
        (Benchmark(name="x/y", minutes=1, gpu=True), "--dry-run"),
        (Benchmark(name="x/y", minutes=1, needs=("nowhere", "run `make nowhere`")), "make nowhere"),
        (
            Benchmark(name="x/y", minutes=1, installed=("pytest", "no-such-distribution")),
            "no-deps no-such-distribution",
        ),
    ],
)
def test_what_cannot_run_here_is_skipped_in_words(benchmark_, said):
    assert said in benchmark_.obstacle(False, None, False)
    assert benchmark_.obstacle(True, None, False) == "has no trial of a few seconds"


def test_a_missing_file_of_the_shared_folder_is_named(tmp_path):
    benchmark_ = Benchmark(name="x/y", minutes=1, words="{shared}/data/photographs.parquet --side 3")
    assert "photographs.parquet" in benchmark_.obstacle(False, str(tmp_path), False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photographs.parquet").touch()
    assert benchmark_.obstacle(False, str(tmp_path), False) is None


def test_one_that_fails_is_an_outcome_that_stops_nothing(tmp_path, capfd):
    given = argparse.Namespace(quick=False, shared=None, scratch=None, results=tmp_path)
    outcome = run.run(Benchmark(name="start/nowhere", minutes=1), given)
    assert outcome.failed
    assert outcome.note == "FAILED with 1"


HUNG = """
import sys
from benchmarks import run
from benchmarks.catalogue import Benchmark

minutes, folder = float(sys.argv[1]), sys.argv[2]
CODE = f'''
import os, subprocess, sys
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("{folder}/processes.partial", "w").write(f"{{os.getpid()}} {{other.pid}}")
os.rename("{folder}/processes.partial", "{folder}/processes")
other.wait()
'''

class Hung(Benchmark):
    def limit(self, quick):
        return minutes

    def command(self, quick, shared, scratch):
        return ["-c", CODE]

run.choose = lambda *_, **__: [Hung(name="start/hung", minutes=1), Benchmark(name="start/nowhere", minutes=1)]
sys.argv = ["run", "--results", folder]
run.end_as_by_ctrl_c()
run.main()
"""


def start_hung(minutes, folder):
    """A run of a benchmark that starts a process and never ends; returns it and both processes."""
    words = [sys.executable, "-c", HUNG, str(minutes), str(folder)]
    started = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wait_until((folder / "processes").exists)
    return started, [Path("/proc") / process for process in (folder / "processes").read_text().split()]


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def have_ended(processes):
    return not any(process.exists() and ") Z" not in (process / "stat").read_text() for process in processes)


def test_one_that_hangs_is_killed_with_its_children_and_the_others_go_on(tmp_path):
    started, processes = start_hung(0.1, tmp_path)
    lines = started.communicate(timeout=60)[0].splitlines()
    assert started.returncode == 1
    assert lines[-2].startswith("start/hung")
    assert lines[-2].endswith("FAILED: longer than 0.1 minutes")
    assert lines[-1].endswith("FAILED with 1")
    assert len(processes) == 2
    wait_until(lambda: have_ended(processes))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_whatever_ends_the_run_ends_the_benchmark_under_way(tmp_path, number, code):
    started, processes = start_hung(10, tmp_path)
    started.send_signal(number)
    started.communicate(timeout=60)
    assert started.returncode == code
    wait_until(lambda: have_ended(processes))


def test_a_limit_is_four_times_the_catalogues_minutes_and_ten_at_least():
    assert [Benchmark(name="x/y", minutes=minutes).limit(False) for minutes in (1, 2.5, 30)] == [10, 10, 120]
    assert Benchmark(name="x/y", minutes=30).limit(True) == 10


def test_rows_hold_the_newest_line_of_each_with_its_targets_and_its_contestants(tmp_path):
    target = {"what": "times theirs", "measured": 1.0, "limit": 1.5, "sense": "at least", "reached": False}
    lines = [
        {"benchmark": "step", "fp32": {"ours": {"seconds": 2.0}}, "targets": [target | {"measured": value}]}
        for value in (1.0, 1.25)
    ]
    lines.append({"benchmark": "record", "files": [{"seconds": 1}], "targets": []})
    (tmp_path / "pretrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = newest(read_lines(tmp_path))
    assert target_table(found).splitlines()[2:] == ["| `pretrain.step` | times theirs | 1.25 | at least 1.5 | missed |"]
    assert contestant_table(found).splitlines()[2:] == ["| `pretrain.step` | fp32, ours | 2 |  |  |"]
    assert newest(read_lines(tmp_path), ["curate"]) == []
    assert len(newest(read_lines(tmp_path), ["pretrain/record"])) == 1


def test_contestants_take_turns_and_a_failed_one_is_named():
    say = "import json; print('words'); print(json.dumps({'seconds': 1.5}))"
    contestants = {name: [sys.executable, "-c", say] for name in ("ours", "theirs")}
    assert turns.in_turn(contestants) == {"ours": [{"seconds": 1.5}] * 2, "theirs": [{"seconds": 1.5}] * 2}
    with pytest.raises(SystemExit, match="theirs failed with 3"):
        turns.in_turn({"theirs": [sys.executable, "-c", "raise SystemExit(3)"]})


def test_the_meter_sees_memory_that_is_gone_again():
    with turns.Meter() as meter:
        bytes(bytearray(64 << 20))
    assert 60 < meter.figures["peak_mib"] < 200
    assert meter.figures["seconds"] > 0
