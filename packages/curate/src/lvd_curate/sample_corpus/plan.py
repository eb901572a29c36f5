"""What the pool holds: a long tail of classes, and the relations planted among its files.

The plan is drawn once, before any picture: a file is then a function of the plan's entry alone, so that files can be
written in any order by any number of processes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lvd_curate.sample_corpus.world import CLASSES, SEED_CLASSES

PLANTED_SHARE = 0.12  # of the pool's files are not pictures of their own
TAIL_EXPONENT = 0.9  # the class of rank r is drawn in proportion to r ** -0.9 (Zipf)
FOLDERS = ("albums/a", "albums/b", "crawl/0", "crawl/1", "crawl/2", "scans")
FOLDER_SHARES = (0.1, 0.08, 0.4, 0.25, 0.12, 0.05)

# Kind and method of the planted files, dealt round and round: every method once in the first 16, the
# everyday ones (recompressed, resized) again in the rest.
PLANTED = (
    ("exact_copy", "bytes"),
    ("jpeg", "recompress"),
    ("resize", "resize"),
    ("crop", "crop"),
    ("flip", "flip"),
    ("colour", "colour"),
    ("caption", "caption"),
    ("test_copy", "bytes"),
    ("test_copy", "recompress"),
    ("test_copy", "resize"),
    ("broken", "truncated"),
    ("broken", "empty"),
    ("broken", "random"),
    ("mislabelled", "png"),
    ("mislabelled", "html"),
    ("mislabelled", "text"),
    ("exact_copy", "bytes"),
    ("jpeg", "recompress"),
    ("jpeg", "recompress"),
    ("resize", "resize"),
    ("resize", "resize"),
    ("crop", "crop"),
    ("colour", "colour"),
    ("caption", "caption"),
)


@dataclass(frozen=True, kw_only=True)
class PoolFile:
    """One file of the pool and what it is."""

    index: int
    path: str  # relative to the corpus
    kind: str  # "original" or the kind of the relation
    method: str | None = None  # how it was made
    label: int | None  # index into CLASSES of what is seen; None where nothing can be seen
    of: int | None = None  # index of the pool original, or of the test image for a test_copy
    parameters: Mapping[str, object] = field(default_factory=dict)

    def truth(self, originals: "list[PoolFile]") -> dict[str, object]:
        """This file's row of `truth.parquet`."""
        named = {"method": self.method, **self.parameters} if self.method else self.parameters
        source = None if self.of is None else f"test/{self.of}" if self.kind == "test_copy" else originals[self.of].path
        return {
            "path": self.path,
            "kind": self.kind,
            "of": source,
            "label": None if self.label is None else CLASSES[self.label].name,
            "in_seeds": self.label is not None and self.label < len(SEED_CLASSES),
            "parameters": json.dumps(named, sort_keys=True),
        }


@dataclass(frozen=True, kw_only=True)
class SeedFile:
    """One file of the seeds."""

    index: int
    path: str  # relative to the corpus
    label: int  # index into SEED_CLASSES; told nowhere


def plan_seeds(count: int, rng: np.random.Generator) -> list[SeedFile]:
    """Plan `count` seed files with every seed class equally often, in an order that tells nothing of it."""
    digits = len(str(count))
    return [
        SeedFile(index=i, path=f"seeds/seed_{n:0{digits}d}.jpg", label=i % len(SEED_CLASSES))
        for i, n in enumerate(rng.permutation(count))
    ]


def plan_pool(images: int, tests: int, rng: np.random.Generator) -> list[PoolFile]:
    """Plan a pool of `images` files, some of them copies of `tests` test images, whose labels are i modulo 12.

    Files 0 .. originals - 1 are the originals; all names and folders are drawn, so nothing can be read from them.
    """
    planted = round(PLANTED_SHARE * images)
    originals = images - planted
    paths = _draw_paths(images, rng)
    labels = _draw_labels(images, rng)
    files = [PoolFile(index=i, path=paths[i], kind="original", label=int(labels[i])) for i in range(originals)]
    for i in range(originals, images):
        kind, method = PLANTED[(i - originals) % len(PLANTED)]
        of, label = _draw_source(kind, method, int(labels[i]), labels[:originals], tests, rng)
        parameters = _draw_parameters(method, rng)
        files.append(
            PoolFile(index=i, path=paths[i], kind=kind, method=method, label=label, of=of, parameters=parameters)
        )
    return files


def _draw_paths(images: int, rng: np.random.Generator) -> list[str]:
    """Folders of unequal size, names that tell nothing; no two alike."""
    folders = rng.choice(len(FOLDERS), images, p=FOLDER_SHARES)
    numbers = rng.permutation(images)
    return [f"pool/{FOLDERS[f]}/img_{n:0{len(str(images))}d}.jpg" for f, n in zip(folders, numbers, strict=True)]


def _draw_labels(images: int, rng: np.random.Generator) -> np.ndarray:
    """Class of each file: ranks in random order, drawn by Zipf's law."""
    weight = np.arange(1, len(CLASSES) + 1) ** -TAIL_EXPONENT
    return rng.permutation(len(CLASSES))[rng.choice(len(CLASSES), images, p=weight / weight.sum())]


def _draw_source(
    kind: str, method: str, label: int, originals: np.ndarray, tests: int, rng: np.random.Generator
) -> tuple[int | None, int | None]:
    """Index of what the file is made from, and the class it shows."""
    if kind == "test_copy":
        index = int(rng.integers(tests))
        return index, index % len(SEED_CLASSES)
    if kind == "broken" or method in ("html", "text"):
        return None, None
    if kind == "mislabelled":
        return None, label
    index = int(rng.integers(len(originals)))
    return index, int(originals[index])


def _draw_parameters(method: str, rng: np.random.Generator) -> dict[str, object]:
    """How far the method goes; every number is rounded so that truth.parquet names exactly what was done."""
    match method:
        case "recompress":
            return {"quality": int(rng.integers(30, 91))}
        case "resize":
            return {"scale": round(float(rng.choice((rng.uniform(0.5, 0.9), rng.uniform(1.1, 1.5)))), 3), "quality": 90}
        case "crop":
            left, top = (round(float(n), 3) for n in rng.uniform(0.02, 0.14, 2))
            return {"left": left, "top": top, "keep": round(float(rng.uniform(0.75, 0.86)), 3), "quality": 90}
        case "colour":
            brightness, contrast, saturation = (round(float(n), 3) for n in rng.uniform(0.6, 1.4, 3))
            return {"brightness": brightness, "contrast": contrast, "saturation": saturation, "quality": 90}
        case "caption":
            return {"height": round(float(rng.uniform(0.1, 0.2)), 3), "words": int(rng.integers(2, 6)), "quality": 90}
        case "truncated":
            return {"keep": round(float(rng.uniform(0.2, 0.7)), 3)}
        case "random":
            return {"bytes": int(rng.integers(200, 20_000))}
        case "flip":
            return {"quality": 90}
    return {}
