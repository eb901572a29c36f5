"""What evaluate wrote: read to be compared, and held to be whole."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MEASURED = ("date", "probe_seconds", "feature_seconds", "images_per_second")


def read_results(out: Path) -> dict[str, Any]:
    """Values of every row, features and predictions, and the names of all files."""
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    values = [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]
    arrays = {
        str(file.relative_to(out)): np.load(file).tobytes() for file in sorted(out.glob("features/*/rows-*/*.npy"))
    }
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if ".partial" not in str(file))
    return {"rows": values, "features": arrays, "files": files}


def expect_whole(out: Path) -> None:
    """Whatever bears its name is whole."""
    for line in (out / "results.jsonl").read_text().splitlines() if (out / "results.jsonl").exists() else ():
        assert json.loads(line)["format"] == "lvd-results-v1"
    for shard in out.glob("features/*/rows-*"):
        assert {file.name for file in shard.iterdir()} >= {"cls.npy", "id.npy", "label.npy", "timing.json"}
        for file in shard.glob("*.npy"):
            np.load(file)
    for file in out.glob("predictions/*.npz"):
        assert zipfile.ZipFile(file).testzip() is None
    if (out / "report.html").exists():
        assert (out / "report.html").read_text().rstrip().endswith("</html>")
