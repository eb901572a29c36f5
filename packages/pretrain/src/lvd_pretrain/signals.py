"""SIGTERM and SIGUSR1 (what SLURM sends ahead of a time limit) ask a run to stop at the next step boundary.

Data workers are spared them; one that SIGKILL ends all the same ends the run in words.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
LOST_WORKER = (
    "a data worker was killed, most likely for want of memory: lower data.workers; what was saved is whole, the same "
    "command goes on"
)


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
    """For data workers: a signal to the whole process group must not cost the step that is under way.

    SIGTERM from the main process itself, which is how it ends its workers when it leaves, still ends them.
    """
    sys.excepthook = tell_all_but_a_lost_parent
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM keeps ending workers
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_when_the_parent_says, daemon=True).start()


def tell_all_but_a_lost_parent(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A parent that leaves resets the connections on which batches wait: no news."""
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


def end_when_the_parent_says() -> None:
    """Wait for a SIGTERM that the parent process sent, and leave."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
