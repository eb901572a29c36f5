"""What one process of two finds wrong, both say: neither waits for the other for ever."""

import os
import socket
import subprocess
import sys

import pytest

from lvd_evaluate import ranks
from lvd_evaluate.errors import InputError


def test_alone_an_error_is_its_own_and_no_error_is_none():
    with ranks.all_or_none():
        pass
    with pytest.raises(InputError, match="broken"), ranks.all_or_none():
        raise InputError("broken")


def test_rows_are_divided_whole():
    assert list(ranks.my_rows(3)) == [0, 1, 2]
    assert ranks.gather_rows(["a", "b"], 2) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_process_is_raised_by_both(failing):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(failing)],
            env={**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in running]
    assert said == [f"a b c / broken on {failing}"] * 2


def main() -> None:
    with ranks.together():
        rows = ranks.gather_rows([("a", "b", "c")[row] for row in ranks.my_rows(3)], 3)
        try:
            with ranks.all_or_none():
                if ranks.rank() == int(sys.argv[1]):
                    raise InputError(f"broken on {ranks.rank()}")
        except InputError as error:
            print(*rows, "/", error)
        ranks.wait()


if __name__ == "__main__":
    main()


def test_processes_of_one_machine_divide_its_cores(monkeypatch):
    monkeypatch.setattr(ranks.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert ranks.my_cores() == 16
    for processes, cores in (("2", 8), ("3", 5), ("64", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert ranks.my_cores() == cores
