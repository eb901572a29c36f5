import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lvd_curate.engine.executors import (
    Executor,
    InlineExecutor,
    ProcessExecutor,
    RayExecutor,
    available_cores,
    require_answer,
)
from lvd_curate.errors import InputError, ShardsFailed


@pytest.fixture(scope="module", params=["inline", "processes", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "inline":
        yield InlineExecutor()
    elif request.param == "processes":
        with ProcessExecutor(2) as processes:
            yield processes
    else:
        with RayExecutor(None, workers=2, device="cpu") as cluster:
            yield cluster


# Work as expressions for `eval`: what other processes run must be importable there, and tests are not.
DIE = f"__import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})"
FULL_DISK = "open('/dev/full', 'wb', 0).write(b'x')"
REFUSAL = "__import__('lvd_curate.config', fromlist=['config']).require(False, 'mend this first')"


def third_time(file: Path) -> str:
    """An expression that fails at its first two calls and then says how often it was called."""
    size = f"__import__('os').path.getsize({str(file)!r})"
    return f"[open({str(file)!r}, 'a').write('.'), {size} if {size} >= 3 else 1 / 0][1]"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "[::1]:1", "ray://localhost:1", "nowhere.invalid:6379", "localhost:70000"]
)
def test_an_address_at_which_nobody_listens_is_said_at_once(address: str) -> None:
    with pytest.raises(InputError) as refused:
        require_answer(address)
    assert str(refused.value).startswith(f"execution.ray_address={address}: no Ray cluster answers (")


def test_what_answers_may_be_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_answer(f"127.0.0.1:{server.getsockname()[1]}")
    require_answer("auto")


def test_results_come_in_order_however_many_there_are(engine: Executor) -> None:
    assert list(engine.map(abs, [-3, 1, -2])) == [3, 1, 2]
    assert list(engine.map(abs, range(-100, 0))) == list(range(100, 0, -1))
    assert list(engine.map(abs, [])) == []
    assert engine.workers >= 1


def test_a_shard_is_tried_three_times(engine: Executor, tmp_path: Path) -> None:
    assert list(engine.map(eval, [third_time(tmp_path / name) for name in "ab"])) == [3, 3]


def test_what_fails_three_times_is_named_after_all_others_are_done(engine: Executor) -> None:
    results = engine.map(eval, ["1", "1 / 0", "3", "[][0]", "5"])
    done = []
    with pytest.raises(ShardsFailed) as failed:
        done.extend(results)
    assert failed.value.errors.keys() == {1, 3}
    assert failed.value.errors[1].startswith("ZeroDivisionError: division by zero (")
    with pytest.raises(ShardsFailed):
        done.extend(engine.map(eval, ["1", "1 / 0", "3"]))
    assert done[-2:] == [1, 3]


@pytest.mark.parametrize(("work", "kind"), [(FULL_DISK, OSError), (REFUSAL, InputError)])
def test_what_the_user_must_mend_stops_at_once(engine: Executor, work: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"No space|mend this"):
        list(engine.map(eval, [work] * 3))


def test_a_shard_that_kills_its_process_is_told_from_those_beside_it() -> None:
    with ProcessExecutor(2) as processes:
        found = []
        with pytest.raises(ShardsFailed) as failed:
            found.extend(processes.map(eval, [DIE if number == 2 else str(number) for number in range(12)]))
        assert found == [0, 1, *range(3, 12)]
        assert failed.value.errors == {2: "its process was killed, most likely for want of memory"}
        assert list(processes.map(abs, [-1])) == [1]


def test_processes_are_others_and_end_with_the_block() -> None:
    with ProcessExecutor(2) as processes:
        workers = set(processes.map(eval, ["__import__('os').getpid()"] * 4))
        assert os.getpid() not in workers
    if sys.platform == "linux":
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_ray_says_when_no_cluster_answers() -> None:
    with pytest.raises(InputError, match=r"execution\.ray_address=ray://localhost:1"):
        RayExecutor("ray://localhost:1", workers=0, device="cpu")


def test_there_is_at_least_one_core() -> None:
    assert available_cores() >= 1
