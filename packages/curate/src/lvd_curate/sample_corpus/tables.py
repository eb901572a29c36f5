"""The corpus' Parquet files: labelled splits that `datasets.load_dataset` opens, and the truth about the pool."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image

from lvd_curate.sample_corpus.files import LabelledImage
from lvd_curate.sample_corpus.plan import PoolFile
from lvd_curate.sample_corpus.world import SEED_CLASSES

ROW_GROUP = 100  # images: small enough to read one at random, large enough to be read in a row
FEATURES = Features(
    {
        "image": Image(),
        "label": ClassLabel(names=[kind.name for kind in SEED_CLASSES]),
        "mask": Image(),
        "depth": Image(),
    }
)
TRUTH_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("kind", pa.string()),
        ("of", pa.string()),
        ("label", pa.string()),
        ("in_seeds", pa.bool_()),
        ("parameters", pa.string()),  # JSON
    ]
)
CARD = """---
license: apache-2.0
pretty_name: LVD sample corpus, {split}
task_categories: [image-classification, image-segmentation, depth-estimation]
---

# LVD sample corpus, {split}

{count} pictures rendered by `curate sample-corpus`; nothing in them was photographed or drawn by anybody.

| column | content |
|---|---|
| `image` | JPEG |
| `label` | class of the main object: {names} |
| `mask` | 8-bit PNG: 0 background, 1 + label for each object of a class, 255 clutter (to be ignored) |
| `depth` | 16-bit PNG: distance along the camera's axis in millimetres, known for every pixel |
"""


def write_labelled(rows: Iterable[LabelledImage], path: Path) -> None:
    """Write one Parquet file of the labelled split, row group by row group."""
    with pq.ParquetWriter(path, FEATURES.arrow_schema, compression="none") as writer:
        for group in _groups(rows, ROW_GROUP):
            columns = {
                "image": _image_column([row.image for row in group]),
                "label": [row.label for row in group],
                "mask": _image_column([row.mask for row in group]),
                "depth": _image_column([row.depth for row in group]),
            }
            writer.write_table(pa.table(columns, schema=FEATURES.arrow_schema), row_group_size=ROW_GROUP)


def write_card(split: str, count: int, path: Path) -> None:
    """Write the dataset card that says what the columns mean."""
    names = ", ".join(kind.name for kind in SEED_CLASSES)
    path.write_text(CARD.format(split=split, count=count, names=names), encoding="utf-8")


def write_truth(pool: list[PoolFile], path: Path) -> None:
    """Write what every pool file is, one row each, in the order of their paths."""
    rows = sorted((file.truth(pool) for file in pool), key=lambda row: str(row["path"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), path)


def _image_column(contents: list[bytes]) -> list[dict[str, object]]:
    return [{"bytes": data, "path": None} for data in contents]


def _groups(rows: Iterable[LabelledImage], size: int) -> Iterator[list[LabelledImage]]:
    remaining = iter(rows)
    while group := list(islice(remaining, size)):
        yield group
