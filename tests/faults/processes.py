"""Processes of a run, as /proc tells them."""

from contextlib import suppress
from pathlib import Path


def list_processes() -> dict[int, tuple[int, int]]:
    """Parent and session of every process that has not ended."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended in between
            state, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent), int(session)
    return found


def children(parent: int) -> list[int]:
    """Children of a process's main thread, oldest first."""
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def processes_below(parent: int) -> set[int]:
    """Children of a process, their children and so on."""
    parents = {process: above for process, (above, _) in list_processes().items()}
    found, size = {parent}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, above in parents.items() if above in found}
    return found - {parent}


def processes_of(run: int) -> set[int]:
    """All of a run: each has a session of its own."""
    return {process for process, (_, session) in list_processes().items() if session == run}
