"""Every benchmark of the catalogue, one after the other, and a table of what they reached.

    python -m benchmarks.run [--list | --rows] [--gpu] [--quick] [--shared FOLDER] [--scratch FOLDER] [NAME ...]

NAME is `package/benchmark` or a whole `package`. A benchmark that fails, or takes four times as long as the catalogue
says (and more than ten minutes), does not stop the others and makes the exit code 1; a missed target is a result.
`make bench` and `make bench-gpu` are this command.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.catalogue import CATALOGUE, Benchmark
from benchmarks.rows import Line, markdown, newest, read_lines
from benchmarks.turns import RESULTS, ROOT


@dataclass(frozen=True)
class Outcome:
    """How one benchmark went: `note` says why it was skipped or how it failed, `lines` are what it recorded."""

    name: str
    note: str | None
    minutes: float
    lines: Sequence[Line]
    failed: bool = False


def main() -> None:
    """Read the words; list, print rows, or run."""
    given = read_words()
    chosen = choose(given.names, gpu=given.gpu)
    if given.list:
        for each in chosen:
            print(
                f"{each.name:32}{each.minutes:5g} min  {each.obstacle(False, given.shared, has_gpu()) or ''}".rstrip()
            )
        return
    if given.rows:
        print(markdown(newest(read_lines(given.results), given.names)))
        return
    if given.gpu and not given.quick and not has_gpu():
        raise SystemExit(
            "no GPU here (nvidia-smi finds none); --dry-run, in make QUICK=1, tries these at tiny sizes on a CPU"
        )
    if given.quick and given.results == RESULTS:
        given.results = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        print(f"a trial: its lines go to {given.results}, not beside the committed ones", file=sys.stderr)
    outcomes = [run(each, given) for each in chosen]
    print_table(outcomes)
    sys.exit(int(any(each.failed for each in outcomes)))


def read_words() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="package/benchmark, or a whole package; default: all")
    parser.add_argument("--list", action="store_true", help="what there is, and what would be skipped here")
    parser.add_argument("--rows", action="store_true", help="the newest lines as rows for docs/results.md")
    parser.add_argument("--gpu", action="store_true", help="those that measure a GPU, instead of the others")
    parser.add_argument(
        "--quick", "--dry-run", action="store_true", help="tiny sizes, seconds, any machine; no figures"
    )
    parser.add_argument("--shared", help="folder with data/ and models/ for the benchmarks on real images")
    parser.add_argument("--scratch", type=Path, help="folder whose contents are kept and used again")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON lines")
    return parser.parse_args()


def choose(names: Sequence[str], gpu: bool) -> list[Benchmark]:
    """The benchmarks that are named; without names all that do or do not measure a GPU.

    Raises:
        SystemExit: no benchmark has that name.
    """
    known = [each.name for each in CATALOGUE]
    for name in names:
        if not any(name in (each, each.split("/")[0]) for each in known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise SystemExit(f"no benchmark '{name}'; the nearest is '{near}', --list shows all")
    if names:
        return [each for each in CATALOGUE if each.name in names or each.name.split("/")[0] in names]
    return [each for each in CATALOGUE if each.gpu == gpu]


def has_gpu() -> bool:
    """Whether the driver sees one."""
    return (
        bool(shutil.which("nvidia-smi")) and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    )


def run(benchmark: Benchmark, given: argparse.Namespace) -> Outcome:
    """Run one in a process of its own, its output passed through; read what it recorded."""
    reason = benchmark.obstacle(given.quick, given.shared, has_gpu())
    if reason:
        return Outcome(benchmark.name, f"skipped: {reason}", 0.0, ())
    known = len(recorded(benchmark, given.results))
    environment = {**os.environ, "BENCHMARK_RESULTS": str(given.results.resolve())}
    if benchmark.threads:
        environment["OMP_NUM_THREADS"] = str(benchmark.threads)
    own = given.scratch / benchmark.name if given.scratch else None
    began = time.monotonic()
    limit = benchmark.limit(given.quick)
    with nullcontext(own) if own else tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        command = [sys.executable, *benchmark.command(given.quick, given.shared or "", str(scratch))]
        print(f"== {benchmark.name}, about {benchmark.minutes:g} minutes", file=sys.stderr, flush=True)
        code = run_within(limit, command, environment)
    note = f"FAILED: longer than {limit:g} minutes" if code is None else f"FAILED with {code}"
    lines = recorded(benchmark, given.results)[known:]
    minutes = (time.monotonic() - began) / 60
    return Outcome(benchmark.name, note if code != 0 else None, minutes, lines, failed=code != 0)


def run_within(minutes: float, command: Sequence[str], environment: dict[str, str]) -> int | None:
    """Run a command to its exit code; None where it takes longer: it is killed then, with all that it started."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        return process.wait(60 * minutes)
    except BaseException as error:
        with suppress(ProcessLookupError):  # it had ended just before
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def recorded(benchmark: Benchmark, results: Path) -> list[Line]:
    """All lines of a benchmark's package, oldest first; it may write of its parts under other names."""
    package = benchmark.name.split("/")[0]
    return [line for line in read_lines(results) if line["benchmark"].split("/")[0] == package]


def print_table(outcomes: Sequence[Outcome]) -> None:
    """One line per target."""
    print(f"\n{'benchmark':32}{'minutes':>8}  what came out")
    for outcome in outcomes:
        targets = [target for line in outcome.lines for target in line.get("targets", [])]
        words = [outcome.note] if outcome.note else []
        words += [
            f"{'reached' if each['reached'] else 'MISSED':8}{each['what']}: {each['measured']:.3g} "
            f"({each['sense']} {each['limit']:.3g})"
            for each in targets
        ]
        for number, word in enumerate(words or ["done; it has no targets"]):
            head = f"{outcome.name:32}{outcome.minutes:8.1f}" if number == 0 else " " * 40
            print(f"{head}  {word}")


def end_as_by_ctrl_c() -> None:
    """Let what else ends this process end the benchmark under way, too: it is in a session of its own."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))


if __name__ == "__main__":
    end_as_by_ctrl_c()
    main()
