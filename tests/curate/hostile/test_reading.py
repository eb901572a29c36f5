"""Images, tars and tables made to do harm: each ends as a row with a reason or as one line, soon and in little memory.

What is merely broken stands in ../test_bad_files.py and ../test_bad_inputs.py. Everything here is read in one child
process whose memory is watched.
"""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.curate.hostile.archives import LONG, TARS
from tests.curate.hostile.images import IMAGES, SHOWN_ALL_THE_SAME
from tests.curate.hostile.tables import STATES, TABLES, one_column, write_repeated, write_stream

MEMORY = 1200  # MB above what the libraries take; one table unfolds to 2,000 at a time, and all claims to terabytes
SECONDS = 10.0  # of a core, of one file

READER = """
import json, resource, sys, time
from pathlib import Path
import polars as pl
from lvd_curate.config import ScreenConfig
from lvd_curate.errors import InputError
from lvd_curate.inputs.file_names import show_name
from lvd_curate.stages import ingest, screen

found = {}
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for place in sorted(Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    try:
        listing = pl.concat(ingest.list_images("pool", "p", str(place), Path(sys.argv[2])))
        rows = list(zip(listing["path"], screen.screen(listing, ScreenConfig())["reason"]))
    except InputError as error:
        rows = show_name(str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    found[place.name] = rows, time.process_time() - began, peak / 1024
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Write everything, read it in a child; return what it found by name, and what it took."""
    root = tmp_path_factory.mktemp("hostile")
    places = root / "in"
    places.mkdir()
    for name, (data, _) in IMAGES.items():
        (places / name).write_bytes(data())
    for name, (archive, _) in TARS.items():
        (places / f"{name}.tar").write_bytes(archive)
    os.truncate(places / "attributes of a terabyte.tar", LONG // 16)  # sparse: the claim is nearly true
    for name, (table, _) in TABLES.items():
        pq.write_table(table, places / f"{name}.parquet")
        if name != "nothing but rows":
            write_stream(table, places / f"{name}.arrow")
    write_repeated(places / "repeated.parquet")
    for name, (state, _) in STATES.items():
        (places / f"saved {name}").mkdir()
        write_stream(one_column(pa.binary(), [b"x"]), places / f"saved {name}/x.arrow")
        if state:
            (places / f"saved {name}/state.json").write_text(state)
        else:
            os.mkfifo(places / f"saved {name}/state.json")
    before = sorted(root.rglob("*"))
    words = [sys.executable, "-W", "ignore", "-c", READER, str(places), str(root / "downloads")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(root.rglob("*")) == before, "nothing is written, unpacked or unpickled"
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def reasons(found: dict[str, Any], name: str) -> str:
    """Return the one line, or the reasons of all rows with their names."""
    rows = found[name][0]
    return rows if isinstance(rows, str) else "; ".join(f"{reason} ({path})" for path, reason in rows)


EXPECTED = {
    **{name: reason for name, (_, reason) in IMAGES.items()},
    **{f"{name}.tar": reason for name, (_, reason) in TARS.items()},
    **{f"{name}.parquet": reason for name, (_, reason) in TABLES.items()},
    **{f"{name}.arrow": reason for name, (_, reason) in TABLES.items() if name != "nothing but rows"},
    **{f"saved {name}": reason for name, (_, reason) in STATES.items()},
    "repeated.parquet": "not an image",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_harm_ends_as_a_reason(found: dict[str, Any], name: str) -> None:
    said, seconds = reasons(found, name), found[name][1]
    if name in SHOWN_ALL_THE_SAME:
        assert said == f"None ({name})"
    else:
        assert re.search(EXPECTED[name], said), said[:300]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", said), "no control character in what people read"
    assert max(map(len, said.split("; "))) < 6000
    assert seconds < SECONDS or name == "repeated.parquet"  # 2 GB are truly there


def test_memory_stays_bounded(found: dict[str, Any]) -> None:
    peaks = {name: round(megabytes) for name, (_, _, megabytes) in found.items()}
    assert max(peaks.values()) < MEMORY, peaks
