"""`curate sample-corpus`: the story, from an empty place to a published corpus.

Everything grows in a hidden folder beside OUT, each file appearing whole under its name; in the last step that folder
becomes OUT. Started again after a stop, what is there is kept and the rest is made.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from lvd_curate.engine.artifacts import Mapper, lock_folder, publish_folder, write_whole
from lvd_curate.engine.executors import InlineExecutor, ProcessExecutor
from lvd_curate.engine.progress import track
from lvd_curate.errors import InputError
from lvd_curate.sample_corpus import files
from lvd_curate.sample_corpus.plan import PoolFile, SeedFile, plan_pool, plan_seeds
from lvd_curate.sample_corpus.world import SEED_CLASSES

logger = logging.getLogger(__name__)

FORMAT = 1  # raised whenever the same arguments would give other bytes
LEAST_IMAGES = 24
FILES_PER_TURN = 32  # what a worker is handed at a time
ROWS_PER_GROUP = 100  # of Parquet: small enough to read one image at random, large enough to read them in a row
RECORD = "corpus.json"
RowSource = Callable[[range], list[files.LabelledImage]]


@dataclass(frozen=True, kw_only=True)
class SampleCorpus:
    """What a corpus holds; written into it as corpus.json."""

    format: int
    seed: int
    pool: int  # files
    seeds: int  # files
    train: int  # rows
    test: int  # rows


def build_sample_corpus(out: Path, *, images: int, seed: int, workers: int) -> SampleCorpus:
    """Render a corpus with `images` pool files into the folder `out`; the same arguments give the same bytes.

    A finished corpus of the same arguments is left as it is. Raises InputError for arguments that cannot be used and
    for an `out` that holds anything else.
    """
    corpus = describe_corpus(images, seed)
    if workers < 1:
        raise InputError(f"workers={workers}: give at least 1")
    out = out.absolute()
    if is_finished(out, corpus):
        logger.info("%s already holds this corpus: nothing to do", out)
        return corpus

    work = out.with_name(f".{out.name}.work")
    with lock_folder(work):
        # 1. a folder to work in: what an interrupted run of the same arguments left, or an empty one
        draft = open_draft(work / "draft", corpus)

        # 2. the plan: every pool file and what it is, every seed file
        pool = plan_pool(corpus.pool, corpus.test, files.stream(seed, files.PLAN, 0))
        seeds = plan_seeds(corpus.seeds, files.stream(seed, files.PLAN, 1))

        # 3. the pictures: pool and seeds as files, train and test as rows of Parquet
        with ProcessExecutor(workers) as processes:
            executor = InlineExecutor() if workers == 1 else processes
            write_files(draft, seed, [*pool, *seeds], executor)
            write_split(draft, "train", corpus.train, partial(files.labelled_images, seed, files.TRAIN), executor)
            write_split(draft, "test", corpus.test, partial(files.labelled_images, seed, files.TEST), executor)

        # 4. the truth about the pool, and the name under which all of it appears at once
        write_truth_table(draft, pool)
        publish_folder(draft, out)
    shutil.rmtree(work)
    return corpus


def describe_corpus(images: int, seed: int) -> SampleCorpus:
    """Sizes of a corpus round a pool of `images` files: seeds a sixth, train a third, test a fifth, all balanced."""
    if images < LEAST_IMAGES:
        raise InputError(f"images={images}: the pool needs at least {LEAST_IMAGES} files")
    if seed < 0:
        raise InputError(f"seed={seed}: give a whole number from 0 up")
    classes = len(SEED_CLASSES)
    seeds, train, test = (classes * max(1, round(images / share / classes)) for share in (6, 3, 5))
    return SampleCorpus(format=FORMAT, seed=seed, pool=images, seeds=seeds, train=train, test=test)


def record_of(corpus: SampleCorpus) -> bytes:
    """Contents of corpus.json."""
    return (json.dumps(asdict(corpus), indent=2) + "\n").encode()


def is_finished(out: Path, corpus: SampleCorpus) -> bool:
    """Tell whether `out` is this corpus already (True) or free to be written (False)."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    record = out / RECORD
    if not record.is_file():
        raise InputError(f"{out} exists and is not a sample corpus: give another folder or delete it")
    if record.read_bytes() != record_of(corpus):
        raise InputError(f"{out} holds a corpus of other arguments, see {record}: give another folder or delete it")
    return True


def open_draft(draft: Path, corpus: SampleCorpus) -> Path:
    """The folder in which the corpus grows, emptied if it holds the beginnings of another one."""
    record = draft / RECORD
    if draft.exists() and not (record.is_file() and record.read_bytes() == record_of(corpus)):
        shutil.rmtree(draft)
    draft.mkdir(exist_ok=True)
    with write_whole(record) as stream:
        stream.write(record_of(corpus))
    return draft


def write_files(draft: Path, seed: int, planned: list[PoolFile | SeedFile], executor: Mapper) -> None:
    """Write every planned file that is not there yet."""
    for folder in {(draft / file.path).parent for file in planned}:
        folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in planned if not (draft / file.path).exists()]
    turns = [missing[at : at + FILES_PER_TURN] for at in range(0, len(missing), FILES_PER_TURN)]
    with track("pool and seeds", len(missing), len(turns)) as advance:
        for written in executor.map(partial(write_turn, draft, seed), turns):
            advance(written, 0)


def write_turn(draft: Path, seed: int, turn: list[PoolFile | SeedFile]) -> int:
    """Write some planned files; return how many."""
    for file in turn:
        with write_whole(draft / file.path) as stream:
            stream.write(files.pool_file(seed, file) if isinstance(file, PoolFile) else files.seed_file(seed, file))
    return len(turn)


def write_split(draft: Path, split: str, count: int, rows_of: RowSource, executor: Mapper) -> None:
    """Write a labelled split as one Parquet file with its card, unless it is there."""
    from lvd_curate.sample_corpus.tables import LabelledWriter, dataset_card

    file = draft / split / "data" / f"{split}-00000-of-00001.parquet"
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(draft / split / "README.md") as stream:
        stream.write(dataset_card(split, count).encode())
    groups = [range(at, min(at + ROWS_PER_GROUP, count)) for at in range(0, count, ROWS_PER_GROUP)]
    with track(split, count, len(groups)) as advance, write_whole(file) as stream, LabelledWriter(stream) as writer:
        for rows in executor.map(rows_of, groups):
            writer.write(rows)
            advance(len(rows), 0)


def write_truth_table(draft: Path, pool: list[PoolFile]) -> None:
    """Write truth.parquet."""
    from lvd_curate.sample_corpus.tables import write_truth

    with write_whole(draft / "truth.parquet") as stream:
        write_truth(pool, stream)
