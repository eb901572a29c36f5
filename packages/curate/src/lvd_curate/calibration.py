"""`curate calibrate`: copies planted in a sample of the user's own pool say which threshold to take."""

import logging
from pathlib import Path

import numpy as np
import polars as pl

from lvd_curate.calibrate import EVERY, PRECISION, Calibration, calibrate
from lvd_curate.columns import POOL
from lvd_curate.doors import open_door
from lvd_curate.engine.artifacts import Workbench, write_table, write_whole
from lvd_curate.engine.catalogue import Catalogue
from lvd_curate.engine.runner import Runner
from lvd_curate.errors import InputError
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.recipes import DedupRecipe
from lvd_curate.stages import screen
from lvd_curate.steps import ImageSet, fingerprint_encoders, list_inputs

logger = logging.getLogger(__name__)


def calibrate_pool(config: DedupRecipe, out: Path, sample: int, random_seed: int = 0) -> Calibration:
    """Write precision and recall per threshold and edit to `out`, and their curves to `out` with the suffix .png.

    The sample is drawn from all usable images of the pool; InputError when there are fewer than two.
    """
    with open_door(out, config) as runner:
        encoder = config.deduplicate.encoder
        if encoder is not None:
            fingerprint_encoders(runner, [encoder], config.execution.device)
        chosen, data = draw_sample(runner, config, sample, random_seed)
        bench = Workbench(runner.store.folder / "planted", runner.executor, runner.max_bytes)
        found = calibrate(
            data,
            encoder,
            config.deduplicate,
            bench,
            precision=config.embed.precision,
            device=config.execution.device,
            random_seed=random_seed,
        )
        paths = chosen["path"]
        suspects = found.suspects.with_columns(first=paths.gather(found.suspects["first"]))
        found = found._replace(suspects=suspects.with_columns(second=paths.gather(found.suspects["second"])))
        draw_curves(found, out.with_suffix(".png"))
        write_table(found.table, out)
        return found


def draw_sample(runner: Runner, config: DedupRecipe, sample: int, random_seed: int) -> tuple[pl.DataFrame, list[bytes]]:
    """Return the rows and the bytes of up to `sample` usable images of different content."""
    listing = Catalogue((list_inputs(runner, [ImageSet(POOL, name, place) for name, place in config.pool.items()]),))
    count = sum(listing.counts())
    order = np.random.default_rng(random_seed).permutation(count)
    rows = listing.load(np.sort(order[: 2 * sample]))  # some will be unusable, or equal
    screened = pl.concat([rows, screen.screen(rows, config.screen)], how="horizontal")
    usable = screened.filter(pl.col("reason").is_null()).unique("id", keep="first", maintain_order=True)
    if len(usable) < 2:
        raise InputError(f"calibration needs two usable images; of {len(rows):,} drawn from the pool, {len(usable)} is")
    chosen = usable.sample(min(sample, len(usable)), seed=random_seed).sort("file", "item", nulls_last=True)
    data = list(read_bytes(chosen))
    for path, found in zip(chosen["path"], data, strict=True):
        if isinstance(found, OSError):
            raise InputError(f"{path} could be read a moment ago and no longer: {found}")
    return chosen, [found for found in data if isinstance(found, bytes)]


def draw_curves(found: Calibration, file: Path) -> None:
    """Draw precision and recall over all edits against the threshold, and the recommended one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    everything = found.table.filter(pl.col("edit") == EVERY)
    for name in ("precision", "recall"):
        left.plot(everything["threshold"], everything[name], label=name)
    for (edit,), table in found.table.filter(pl.col("edit") != EVERY).group_by("edit", maintain_order=True):
        right.plot(table["threshold"], table["recall"], label=str(edit), linewidth=1)
    for axes, title in ((left, "all planted copies"), (right, "recall per edit")):
        if found.recommended is not None:
            axes.axvline(found.recommended, color="black", linestyle=":", label=f"recommended {found.recommended:.2f}")
        axes.set(xlabel="threshold", ylim=(0, 1.02), title=title)
        axes.legend(fontsize=7)
    with write_whole(file) as stream:
        figure.savefig(stream, format="png", dpi=120)
    pyplot.close(figure)


def describe(found: Calibration, config: DedupRecipe) -> str:
    """Say what was found, and which knob to set."""
    knob = "deduplicate.hash_correlation" if config.deduplicate.encoder is None else "deduplicate.threshold"
    lines = []
    if found.recommended is None:
        lines.append(f"no threshold reaches a precision of {PRECISION}: look at the suspects first")
    else:
        at = found.table.filter((pl.col("threshold") - found.recommended).abs() < 1e-6)
        lines += [f"{edit:20} recall {recall:.3f}" for edit, recall in at.select("edit", "recall").rows()]
        best = at.filter(pl.col("edit") == EVERY).to_dicts()[0]
        lines.append(
            f"recommended: {knob}={found.recommended:.2f}: precision {best['precision']:.4f}, "
            f"recall {best['recall']:.3f}, {best['wrong_per_million']:.1f} strangers in a million pairs"
        )
        lines.append("the highest threshold that keeps recall: a larger pool meets strangers that no sample holds")
    if len(found.suspects):
        lines.append("most alike among different files (real copies in the pool count as mistakes here):")
        lines += [f"  {score:.3f} {first} {second}" for first, second, score in found.suspects.head(5).rows()]
    return "\n".join(lines)
