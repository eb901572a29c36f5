"""SIGTERM and SIGUSR1 (what SLURM sends ahead of a time limit) ask a run to stop at the next step boundary."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context manager that notes a stopping signal.

    Attributes:
        name: the signal's name once one came, else empty.
    """

    def __init__(self) -> None:
        self.name = ""

    def __enter__(self) -> StopRequest:
        self.before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name


def leave_stopping_to_the_main_process(worker: int) -> None:
    """For data workers: a signal to the whole process group must not cost the step that is under way."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
