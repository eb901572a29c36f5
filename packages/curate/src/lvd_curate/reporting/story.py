"""What a finished dataset keeps of how it came to be, so that it can be shown and explained when all inputs are gone.

`OUT/story/*.parquet` hold what the stages found out; they are scanned, never loaded whole: a pool may have a billion
images, and a reader wants to see fifty of them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
from jinja2 import TemplateError

from lvd_curate.columns import LINEAGE, MODERATED, PICKS
from lvd_curate.engine.artifacts import write_table
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name
from lvd_curate.inputs.images import UnusableImage, encode_preview
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.models.blurring import blur_faces

if TYPE_CHECKING:
    from lvd_curate.steps import Screened

FOLDER = "story"
PREVIEW_SIDE = 96  # pixels
PREVIEWS = pl.Schema({"id": pl.String, "jpeg": pl.Binary})

# What the files hold at least. `score` is how alike an image and its representative are, `cut` the threshold at which
# a giant component was taken apart (null or no such column elsewhere). `images` is how many a stage would drop at a
# threshold. `balanced` is what rebalancing had to choose from: `clusters` finest first, and what it kept.
COMPONENTS = pl.Schema(
    {"id": pl.String(), "component": pl.Int64(), "representative": pl.String(), "score": pl.Float32()}
)
TOUCHES = pl.Schema({"id": pl.String(), "exclude_set": pl.String(), "reference_id": pl.String(), "score": pl.Float32()})
CLUSTERS = pl.Schema({"id": pl.String(), "cluster": pl.Int32()})
CURVES = pl.Schema({"stage": pl.String(), "threshold": pl.Float64(), "images": pl.Int64()})
BALANCED = pl.Schema({"id": pl.String(), "clusters": pl.List(pl.Int32()), "kept": pl.Boolean()})

ALWAYS = {"components": COMPONENTS, "touches": TOUCHES, "clusters": CLUSTERS, "picks": PICKS}
WHEN_THERE = {"moderation": MODERATED, "curves": CURVES, "balanced": BALANCED, "previews": PREVIEWS}

logger = logging.getLogger(__name__)


class Story(NamedTuple):
    """The tables of one dataset, unread; without a row where the run had nothing to write."""

    components: pl.LazyFrame
    touches: pl.LazyFrame
    clusters: pl.LazyFrame  # of all clean images, pool and seeds
    picks: pl.LazyFrame
    moderation: pl.LazyFrame
    curves: pl.LazyFrame
    balanced: pl.LazyFrame
    previews: pl.LazyFrame


@contextmanager
def name_damage(folder: Path) -> Iterator[None]:
    """Turn what a dataset makes its reader raise, cut short or written by strangers, into an InputError."""
    try:
        yield
    except (pl.exceptions.PolarsError, LookupError, TypeError, AttributeError, ValueError, TemplateError) as error:
        if isinstance(error, InputError):
            raise
        first = show_name((str(error).splitlines() or [""])[0])
        raise InputError(f"{folder} is damaged, or of another version ({type(error).__name__}: {first})") from error


def open_story(folder: Path) -> Story:
    """Open the story of the dataset in `folder`; InputError when it has none."""
    tables = {}
    for name, schema in (ALWAYS | WHEN_THERE).items():
        file = folder / FOLDER / f"{name}.parquet"
        if file.is_file():
            tables[name] = pl.scan_parquet(file, glob=False)
        elif name in WHEN_THERE:
            tables[name] = schema.to_frame().lazy()
        else:
            raise InputError(f"{folder} is no dataset of this version: it lacks {FOLDER}/{file.name}; build it again")
    if "cut" not in tables["components"].collect_schema():
        tables["components"] = tables["components"].with_columns(cut=pl.lit(None, pl.Float32))
    return Story(**tables)


def open_lineage(folder: Path) -> pl.LazyFrame:
    """Open LINEAGE of the dataset in `folder`; InputError when it has none."""
    file = folder / "lineage.parquet"
    if not file.is_file():
        raise InputError(f"{folder} is no dataset of curate: it has no {file.name}")
    return pl.scan_parquet(file, glob=False).select(LINEAGE.names())


def name_images(lineage: pl.LazyFrame, ids: Sequence[str]) -> pl.DataFrame:
    """Return (id, role, source, path) of each image's first file, in the order of the ids; unknown ids are left out."""
    known = lineage.filter(pl.col("id").is_in(list(ids))).select("id", "role", "source", "path").collect()
    return known.unique("id", keep="first", maintain_order=True).sort("id")


def write_previews(
    ids: Sequence[str], screened: "Screened", file: Path, *, blurred: pl.DataFrame | None = None
) -> None:
    """Write PREVIEWS of these images, as far as they can still be read.

    `blurred` is MODERATED when faces are to be blurred: an image that is not in it then gets no preview.
    """
    found = screened.files.filter(pl.col("id").is_in(list(ids)) & pl.col("reason").is_null())
    if blurred is not None:
        found = found.join(blurred, on="id", how="semi")
    rows = found.unique("id", keep="first", maintain_order=True)["row"].sort().to_numpy()
    files = screened.catalogue.load(rows) if len(rows) else pl.DataFrame(schema={"id": pl.String})
    faces = {} if blurred is None else dict(blurred.filter(pl.col("id").is_in(list(ids))).select("id", "faces").rows())
    previews = []
    for identity, data in zip(files["id"], read_bytes(files) if len(rows) else (), strict=True):
        try:
            if isinstance(data, OSError):
                raise data
            shown = blur_faces(data, faces[identity]) if faces.get(identity) else data
            previews.append({"id": identity, "jpeg": encode_preview(shown, PREVIEW_SIDE)})
        except (OSError, UnusableImage) as error:  # OSError: also Pillow's, where faces are blurred
            logger.warning("report: no preview of %s: %s", identity[:16], error)
    write_table(pl.DataFrame(previews, schema=PREVIEWS).sort("id"), file)
