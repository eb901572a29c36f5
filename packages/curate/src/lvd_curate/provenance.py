"""What a dataset says it was made from: written once into provenance.json, read to know whose dataset lies there."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lvd_curate.columns import ROLES
from lvd_curate.engine.artifacts import write_whole
from lvd_curate.errors import InputError
from lvd_curate.recipes import BuildConfig

LIBRARIES = ("lvd-curate", "numpy", "pillow", "polars", "pyarrow", "scipy", "torch", "transformers")


def library_versions() -> dict[str, str]:
    """Return the versions that may change a byte of the dataset."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def write_provenance(
    folder: Path,
    fingerprint: str,
    config: BuildConfig,
    models: dict[str, str],
    counts: dict[str, Any],
    set_aside: list[str],
) -> None:
    """Write provenance.json: what the dataset was made from, by what, and how much of it there is."""
    said = {"fingerprint": fingerprint, "config": config.content(), "encoders": models, "counts": counts}
    said["set_aside"] = set_aside  # artifacts that lack the shards that failed; empty as a rule
    with write_whole(folder / "provenance.json") as stream:
        stream.write((json.dumps(said | {"versions": library_versions()}, indent=2) + "\n").encode())


def check_output(config: BuildConfig, out: Path) -> None:
    """Raise InputError when `out` lies inside an input or is something other than this recipe's dataset."""
    check_outside({role: getattr(config, role) for role in ROLES}, "--out", out)
    if not out.resolve().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.resolve().parent}; make it first")
    if out.exists() and read_provenance(out).get("config") != json.loads(json.dumps(config.content())):
        raise InputError(f"{out} exists and is not this recipe's dataset; move it away or choose another --out")


def check_outside(sets: Mapping[str, Mapping[str, str]], option: str, target: Path) -> None:
    """Raise InputError when what is to be written lies inside an input, which would find it there the next time."""
    for role, named in sets.items():
        for name, place in named.items():
            if target.resolve().is_relative_to(Path(place).resolve()) and Path(place).exists():
                raise InputError(
                    f"{option} {target} lies inside the {role} set {name!r} ({place}); choose another place"
                )


def check_published(out: Path, fingerprint: str, *, set_aside: bool) -> None:
    """Raise InputError unless `out` was made from exactly these inputs, and all of them where none may be set aside."""
    said = read_provenance(out)
    if said.get("set_aside") and not set_aside:
        raise InputError(
            f"{out} was built without the images of shards that failed ({', '.join(said['set_aside'])}); move it away "
            "to try them again, or keep it with execution.set_aside=true"
        )
    if said.get("fingerprint") != fingerprint:
        raise InputError(
            f"{out} was made from other inputs or by another version; move it away or choose another --out"
        )


def read_provenance(folder: Path) -> dict[str, Any]:
    """Return what a dataset's provenance.json says; nothing for a folder without one of ours."""
    file = folder / "provenance.json"
    try:
        said = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError:  # neither JSON nor text
        return {}
    return said if isinstance(said, dict) else {}
