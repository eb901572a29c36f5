"""A run folder belongs to one configuration: `config.yaml` says which."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Any, TextIO

import yaml

from lvd_pretrain.config import PretrainConfig
from lvd_pretrain.errors import InputError
from lvd_pretrain.plain_yaml import read_settings

# What may change between start and resume; data and global batch are checked by what they are, not by their words.
FREE = (
    "out",
    "log_every",
    "data.workers",
    "data.path",
    "model.attention",
    "model.compile",
    "loss.fused",
    "optim.batch_size",
    "optim.activation_checkpointing",
    "save.every",
    "save.keep",
    "save.keep_every",
    "trackers",
)
FREE_SECTIONS = ("data.paths.", "monitor.", "knn.")

OUTPUTS = ("metrics.jsonl", "checkpoints", "models", "model")  # beside config.yaml
MARKS = {"preset", "data", "optim"}  # keys by which a run's config.yaml is known
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what file systems without locks answer


def lock_run_folder(run: Path) -> TextIO:
    """Create the run folder and hold it against a second run, until the file is closed or this process ends.

    The lock is this process's own: data workers that outlive a killed run for seconds do not keep it.

    Raises:
        InputError: another run holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = open(run / ".lock", "a")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            lock.close()
            raise InputError(f"{run}: another run is training here; wait for it, end it or give another out=") from None
        if error.errno not in NO_LOCKS:
            raise
        logging.getLogger(__name__).warning("%s: no file locks on this disk, start no second run here", run)
    return lock


def claim_run_folder(run: Path, config: PretrainConfig, *, started: bool) -> None:
    """Write the run folder's config.yaml; once it has a checkpoint (`started`), check first that it is this run's.

    Raises:
        InputError: the folder holds a run of another configuration; names the first key that differs.
    """
    path = run / "config.yaml"
    wanted = _flatten(config.to_dict())
    _require_own(run, started=started)
    if started and path.is_file():
        found = _flatten(read_settings(path))
        for key in sorted(wanted.keys() | found.keys()):
            if key not in FREE and not key.startswith(FREE_SECTIONS) and wanted.get(key) != found.get(key):
                raise InputError(
                    f"{run} holds a run with {key}={found.get(key)}, now {key}={wanted.get(key)}: "
                    "give the same recipe to go on, or another out= to start afresh"
                )
    run.mkdir(parents=True, exist_ok=True)
    partial = run / ".config.yaml.partial"
    partial.write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    partial.rename(path)


def _require_own(run: Path, *, started: bool) -> None:
    """Look whether what a run would replace is a run's.

    Raises:
        InputError: a file or folder of another origin bears the name of one that a run writes.
    """
    path = run / "config.yaml"
    if path.exists() and not read_settings(path).keys() >= MARKS:
        raise InputError(f"{path} is no run's: give another out=, so that nothing of yours is replaced")
    foreign = [name for name in OUTPUTS if os.path.lexists(run / name)]
    if foreign and not started and not path.exists():
        raise InputError(f"{run} holds {foreign[0]}, but no config.yaml of a run: give another out=")
    if (run / "model").is_dir() and not (run / "model").is_symlink():
        raise InputError(f"{run / 'model'} is a folder, and a run would make a link of that name: give another out=")


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
