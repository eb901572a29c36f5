"""`curate sample-corpus`: the story, from an empty place to a published corpus.

Everything is written into a hidden folder beside OUT, each file renamed into place when it is whole; in the last step
that folder becomes OUT. Started again after a stop, what is there is kept and the rest is made.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from lvd_curate.errors import InputError
from lvd_curate.sample_corpus import files
from lvd_curate.sample_corpus.plan import PoolFile, SeedFile, plan_pool, plan_seeds
from lvd_curate.sample_corpus.world import SEED_CLASSES

log = logging.getLogger(__name__)

FORMAT = 1  # raised whenever the same arguments would give other bytes
LEAST_IMAGES = 24
RECORD = "corpus.json"  # arguments and counts

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Sequence[Item], str], Iterator[Result]]


@dataclass(frozen=True, kw_only=True)
class SampleCorpus:
    """What a corpus holds; written as corpus.json."""

    format: int
    images: int  # files in pool/
    seed: int
    seeds: int  # files in seeds/
    train: int  # rows
    test: int  # rows


def build_sample_corpus(out: Path, *, images: int, seed: int, workers: int) -> SampleCorpus:
    """Render a corpus with `images` pool files into the folder `out`; the same arguments give the same bytes.

    A finished corpus of the same arguments is left as it is. Raises InputError for arguments that cannot be used and
    for an `out` that holds anything else.
    """
    corpus = _describe(images, seed, workers)
    if _is_finished(out, corpus):
        log.info("%s already holds this corpus: nothing to do", out)
        return corpus

    # 1. a folder to work in: what an interrupted run of the same arguments left, or a new one
    draft = _open_draft(out, corpus)

    # 2. the plan: every pool file and what it is, every seed file
    pool = plan_pool(corpus.images, corpus.test, files.stream(seed, files.PLAN, 0))
    seeds = plan_seeds(corpus.seeds, files.stream(seed, files.PLAN, 1))

    # 3. the pictures: pool and seeds as files, train and test as rows of Parquet
    with _mapper(workers) as map_items:
        everything: list[PoolFile | SeedFile] = [*pool, *seeds]
        wanted = [file for file in everything if not (draft / file.path).exists()]
        for _ in map_items(partial(_write_file, draft, seed), wanted, "pool and seeds"):
            pass
        for split, part, rows in (("train", files.TRAIN, corpus.train), ("test", files.TEST, corpus.test)):
            _write_split(draft, split, map_items(partial(files.labelled_image, seed, part), range(rows), split), rows)

    # 4. the truth, and the name under which all of it appears at once
    from lvd_curate.sample_corpus.tables import write_truth

    _publish(draft / "truth.parquet", partial(write_truth, pool))
    os.replace(draft, out)
    return corpus


def _describe(images: int, seed: int, workers: int) -> SampleCorpus:
    if images < LEAST_IMAGES:
        raise InputError(f"--images {images}: the pool needs at least {LEAST_IMAGES} files")
    if seed < 0:
        raise InputError(f"--seed {seed}: give a whole number from 0 up")
    if workers < 1:
        raise InputError(f"--workers {workers}: give at least 1")
    classes = len(SEED_CLASSES)
    seeds, train, test = (classes * max(1, round(images / share / classes)) for share in (6, 3, 5))
    return SampleCorpus(format=FORMAT, images=images, seed=seed, seeds=seeds, train=train, test=test)


def _record(corpus: SampleCorpus) -> bytes:
    return (json.dumps(asdict(corpus), indent=2) + "\n").encode()


def _is_finished(out: Path, corpus: SampleCorpus) -> bool:
    """True if `out` is this corpus, False if it is free to be written."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    record = out / RECORD
    if record.is_file():
        if record.read_bytes() == _record(corpus):
            return True
        raise InputError(f"{out} holds a corpus of other arguments (see {record}): give another folder or delete it")
    raise InputError(f"{out} exists and is not a sample corpus: give another folder or delete it")


def _open_draft(out: Path, corpus: SampleCorpus) -> Path:
    """The hidden folder beside `out` in which the corpus grows; leftovers of other arguments are removed."""
    draft = out.absolute().parent / f".{out.name}.draft"
    record = draft / RECORD
    if draft.exists() and not (record.is_file() and record.read_bytes() == _record(corpus)):
        shutil.rmtree(draft)
    draft.mkdir(parents=True, exist_ok=True)
    _publish_bytes(record, _record(corpus))
    return draft


def _write_file(draft: Path, seed: int, file: PoolFile | SeedFile) -> None:
    contents = files.pool_file(seed, file) if isinstance(file, PoolFile) else files.seed_file(seed, file)
    _publish_bytes(draft / file.path, contents)


def _write_split(draft: Path, split: str, rows: Iterator[files.LabelledImage], count: int) -> None:
    from lvd_curate.sample_corpus.tables import write_card, write_labelled

    path = draft / split / "data" / f"{split}-00000-of-00001.parquet"
    if not path.exists():
        _publish(path, partial(write_labelled, rows))
    _publish(draft / split / "README.md", partial(write_card, split, count))


def _publish_bytes(path: Path, contents: bytes) -> None:
    _publish(path, lambda temporary: temporary.write_bytes(contents))


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, force it to the disk, and rename it to `path`.

    The temporary name is always the same: what a killed run left is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def _mapper(workers: int) -> Iterator[Map]:
    """An ordered map over items with progress, in this process or in `workers` others."""
    if workers == 1:
        yield lambda function, items, title: _with_progress(map(function, items), len(items), title)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        yield lambda function, items, title: _with_progress(
            executor.map(function, items, chunksize=16), len(items), title
        )


def _with_progress(results: Iterator[Result], total: int, title: str) -> Iterator[Result]:
    """Pass the results on; a bar on a terminal, ten lines of log elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(results, title, total, console=Console(stderr=True))
        return
    for done, result in enumerate(results, 1):
        if done * 10 // total > (done - 1) * 10 // total:
            log.info("%s: %d of %d", title, done, total)
        yield result
