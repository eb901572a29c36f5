"""The corpus' Parquet files: labelled splits that `datasets.load_dataset` opens, and the truth about the pool.

Imported by the writing process alone: `datasets` takes seconds to import, and the rendering workers do without it.
"""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, Value

from lvd_curate.sample_corpus.files import LabelledImage
from lvd_curate.sample_corpus.plan import PoolFile
from lvd_curate.sample_corpus.world import SEED_CLASSES

METRES_PER_NUMBER = 0.001  # depth is stored in millimetres
FEATURES = Features(
    {
        "image": Image(),
        "label": ClassLabel(names=[kind.name for kind in SEED_CLASSES]),
        "mask": Image(),
        "depth": Image(),
        "depth_scale": Value("float32"),
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
| `depth_scale` | metres per stored number of `depth` |
"""


class LabelledWriter:
    """Writes a labelled split into an open file, one row group at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self.writer = pq.ParquetWriter(stream, FEATURES.arrow_schema, compression="none")  # the images are compressed

    def __enter__(self) -> "LabelledWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()

    def write(self, rows: list[LabelledImage]) -> None:
        """Add a row group."""
        columns = {
            "image": [{"bytes": row.image, "path": None} for row in rows],
            "label": [row.label for row in rows],
            "mask": [{"bytes": row.mask, "path": None} for row in rows],
            "depth": [{"bytes": row.depth, "path": None} for row in rows],
            "depth_scale": [METRES_PER_NUMBER] * len(rows),
        }
        self.writer.write_table(pa.table(columns, schema=FEATURES.arrow_schema))


def dataset_card(split: str, count: int) -> str:
    """Markdown that says what the columns mean."""
    return CARD.format(split=split, count=count, names=", ".join(kind.name for kind in SEED_CLASSES))


def write_truth(pool: list[PoolFile], stream: BinaryIO) -> None:
    """Write what every pool file is, one row each, in the order of their paths."""
    rows = sorted((file.truth(pool) for file in pool), key=lambda row: str(row["path"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), stream)
