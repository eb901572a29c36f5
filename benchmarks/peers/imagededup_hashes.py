"""imagededup's four hashes of every file of every folder below one, one JSON line per hash and folder.

Runs in the peer's environment: `.peers/imagededup/bin/python -m benchmarks.peers.imagededup_hashes FOLDER`.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from imagededup.methods import AHash, DHash, PHash, WHash


def main(root: Path) -> None:
    """Print [hash, folder, values in the order of the file names]."""
    for method in (PHash, DHash, AHash, WHash):
        for folder in sorted(root.iterdir()):
            values = method(verbose=False).encode_images(image_dir=folder, num_enc_workers=0)
            print(json.dumps([method.__name__, folder.name, [values[name] for name in sorted(values)]]), flush=True)


if __name__ == "__main__":
    logging.disable(logging.INFO)  # two lines per folder and hash
    main(Path(sys.argv[1]))
