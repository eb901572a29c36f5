"""The dataset's card, README.md: what a hub shows of it."""

from pathlib import Path
from typing import Any

from lvd_curate.errors import InputError
from lvd_curate.provenance import read_provenance
from lvd_curate.reporting.pages import write_page


def write_card(folder: Path) -> None:
    """Write README.md from provenance.json."""
    write_page("card.md.j2", describe(folder), folder / "README.md")


def describe(folder: Path) -> dict[str, Any]:
    """Return what card and report say alike; InputError for a folder that is no dataset of ours."""
    said = read_provenance(folder)
    if not {"config", "counts", "fingerprint"} <= said.keys():
        raise InputError(f"{folder} is no dataset of curate: it has no provenance.json that says how it was made")
    config, counts = said["config"], said["counts"]
    names = f"{', '.join(config['pool'])} curated with {', '.join(config['seeds'])}"
    images = sum(counts["images"].values())
    return {"name": names, "mode": copy_mode(config), "size": size_category(images), "images": images, **said}


def copy_mode(config: dict[str, Any]) -> str:
    """Say what decided which images are copies."""
    encoder = config["deduplicate"]["encoder"]
    if encoder is None:
        return "hash-only mode: sha256 and perceptual hashes, no copy-detection encoder"
    return f"hashes and the copy-detection encoder {encoder}"


def size_category(images: int) -> str:
    """Return the Hugging Face hub's word for a dataset of this size."""
    words = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return words[min(len(words) - 1, max(0, len(str(images)) - 3))]
