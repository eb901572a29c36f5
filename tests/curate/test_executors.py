import os
import signal

import pytest

from lvd_curate.errors import InputError
from lvd_curate.executors import InlineExecutor, ProcessExecutor, available_cores

OWN_ID = "__import__('os').getpid()"
DIE = f"__import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})"


def test_both_engines_keep_the_order_and_processes_are_others() -> None:
    with ProcessExecutor(2) as processes:
        assert list(processes.map(abs, [-3, 1, -2])) == list(InlineExecutor().map(abs, [-3, 1, -2])) == [3, 1, 2]
        assert os.getpid() not in processes.map(eval, [OWN_ID])
        assert list(processes.map(abs, [])) == []


def test_an_error_in_a_worker_arrives_as_itself() -> None:
    with ProcessExecutor(1) as processes, pytest.raises(FileNotFoundError):
        list(processes.map(os.listdir, ["/no/such/folder"]))


def test_a_killed_worker_is_explained() -> None:
    with ProcessExecutor(2) as processes, pytest.raises(InputError, match=r"memory.*execution\.workers=1"):
        list(processes.map(eval, [DIE]))


def test_there_is_at_least_one_core() -> None:
    assert available_cores() >= 1
