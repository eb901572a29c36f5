"""Names of strangers in a dataset that is built from them: nothing leaves its place, becomes mark-up or runs."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

Draw = Callable[..., Any]
Encode = Callable[..., bytes]
Run = Callable[..., tuple[int, str]]

MARKUP = "<img src=x onerror=document.title='pwned'>"
NAMES = [
    MARKUP + ".jpg",
    "<script>document.title='pwned'<\\script>.jpg",
    "\x1b]0;pwned\x07\x1b[2J.jpg",
    "two\nlines\r.jpg",
    "gpj.\u202etxe.jpg",
    "\u200fcod.jpg",
    os.fsdecode(b"caf\xe9\xff.jpg"),
    "-rf --out=x.jpg",
    "hf:owner-name.jpg",
    "a | b ` c [d](javascript:alert(1)).jpg",
    "--- \n---\nlicense: mine.jpg",
    "{{ 7 * 7 }}${HF_TOKEN}$(touch x).jpg",
    "n" * 251 + ".jpg",
    " .jpg",
    "...jpg.jpg",
]
IGNORED = ["x.\x1b[31mred", "y.\u202etxt"]  # suffixes are counted aloud
SECRET = "hf_" + "s" * 34
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]")


def list_tree(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if not file.is_relative_to(root / "made"))


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Draw,
    jpeg: Encode,
    run_curate: Run,
    numb_encoder: str,
    offline: Callable[[], Any],
) -> tuple[Path, str]:
    """Build a dataset from hostile names without a network; return its folder and what the command said."""
    root = tmp_path_factory.mktemp("names")
    for name in ("pool", "seeds", "test", "made", "outside"):
        (root / name).mkdir()
    for number, name in enumerate(NAMES):
        (root / "pool" / name).write_bytes(jpeg(picture(number)))
        (root / "pool" / f"{number}{name[-240:]}").write_bytes(jpeg(picture(number), quality=60))
    for name in IGNORED:
        (root / "pool" / name).write_bytes(b"x")
    (root / "pool/broken\x1b[2J.jpg").write_bytes(b"<script>alert(1)</script>")
    (root / "outside/farm.jpg").write_bytes(jpeg(picture(80)))
    (root / "pool/link.jpg").symlink_to("../outside/farm.jpg")
    (root / "pool/ring").symlink_to(".")
    (root / "pool/up").symlink_to("../outside")
    for number in range(6):
        (root / "seeds" / f"{MARKUP}{number}.jpg").write_bytes(jpeg(picture(100 + number)))
    (root / "test/leak.jpg").write_bytes(jpeg(picture(0), quality=70))
    recipe = {
        "pool": {f"{MARKUP} | `a` [b](javascript:c)\n---\nlicense: mine\n---": str(root / "pool")},
        "seeds": {"../../up\x1b[2J": str(root / "seeds")},
        "exclude": {"`</script><script>document.title='pwned'</script>": str(root / "test")},
        "embed": {"encoder": numb_encoder},
        "execution": {"engine": "inline"},
        "retrieve": {"neighbours": 40},
    }
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    before = list_tree(root)

    with offline(), pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, SECRET)
        code, said = run_curate("build-lvd", root / "recipe.yaml", f"--out={root / 'made/dataset'}")
    assert code == 0, said
    assert list_tree(root) == before, "nothing is written but the dataset and its work folder"
    assert {file.name for file in (root / "made").iterdir()} == {"dataset", "dataset.work"}
    return root / "made/dataset", said


def test_every_name_is_a_row_and_its_image_kept(built: tuple[Path, str]) -> None:
    lineage = pl.read_parquet(built[0] / "lineage.parquet")
    pool = lineage.filter(role="pool")
    assert len(pool) == 2 * len(NAMES) + 2
    assert pool["path"].is_unique().all()
    assert not [path for path in lineage["path"] if OBEYED.search(path)]
    assert pool.filter(path="link.jpg")["status"].to_list() == ["kept"]  # links to files are followed
    assert not [path for path in pool["path"] if path.startswith(("ring", "up"))]  # links to folders are not
    for name in pl.read_parquet(built[0] / "data/*.parquet")["image"].struct.field("path"):
        assert "/" not in name
        assert not OBEYED.search(name)


def test_a_terminal_is_told_nothing_to_obey(built: tuple[Path, str], run_curate: Run, tmp_path: Path) -> None:
    dataset, _ = built
    said = ""
    for name in ("broken", ".jpg.jpg", "no such \x1b[2J.jpg", "farm", "link.jpg", "cod.jpg"):
        said += run_curate("explain", dataset, name)[1]
    assert not OBEYED.search(said)
    lines = said.splitlines()
    assert not [line for line in lines if line.startswith(("---", "license"))], "no name makes a line of its own"
    titled = tmp_path / "in\x1b]0;pwned\x07"
    titled.mkdir()
    (titled / "no.image").touch()
    (titled / "image.jpg").write_bytes((dataset.parents[1] / "outside/farm.jpg").read_bytes())
    pools = [f"--pool={dataset.parents[1] / 'pool'}", f"--pool=titled={titled}"]
    words = ["dedup", *pools, f"--out={tmp_path / 'x.parquet'}", "execution.workers=1"]
    done = subprocess.run([sys.executable, "-m", "lvd_curate", *words], capture_output=True, timeout=120, check=True)
    told = (done.stdout + done.stderr).decode()
    assert not OBEYED.search(told), told
    assert "1 files are links; what they lead to is read" in told
    assert "1 .\\x1b[31mred, 1 .\\u202etxt" in told
    assert "in\\x1b]0;pwned\\x07: 1 files are no input" in told


def test_no_secret_is_saved(built: tuple[Path, str]) -> None:
    dataset, said = built
    assert SECRET not in said
    for file in (file for file in dataset.parent.rglob("*") if file.is_file()):
        assert SECRET.encode() not in file.read_bytes(), file


def test_the_card_is_what_it_says(built: tuple[Path, str]) -> None:
    card = (built[0] / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert set(yaml.safe_load(front)) == {"tags", "task_categories", "size_categories"}
    assert "<" not in re.sub(r"`[^`\n]*`", "", text), "outside of code"
    assert "](" not in text
    assert "license: mine" in text.splitlines()[1] or "license: mine" in text.splitlines()[2], "one line, the heading"
    assert all(line.count("|") in (0, 3, 4) for line in text.splitlines())


def test_the_report_allows_its_own_script_alone(built: tuple[Path, str]) -> None:
    report = (built[0] / "report.html").read_text()
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', report)
    (script,) = re.findall(r"<script>(.*?)</script>", report, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy[0]


def test_a_browser_runs_nothing_of_the_report(
    built: tuple[Path, str], tmp_path: Path, browse: Callable[[Path, Path], str]
) -> None:
    text = (built[0] / "report.html").read_text()
    assert text.count("<body>") == 1
    report = tmp_path / "report.html"  # as if something had not been escaped: what the page allows still holds
    report.write_text(text.replace("<body>", "<body><script>document.title='pwned'</script>"))
    html = browse(report, tmp_path / "profile")
    title = re.search(r"<title>(.*?)</title>", html, flags=re.S)
    assert title is not None
    assert title[1].startswith("&lt;img src=x onerror=")
    assert "rows match" in html, "the page's own script ran"
    assert not re.search(r"<img(?! src=\"data:image/jpeg;base64,)", html)


CHANGES: dict[str, Callable[[Path], object]] = {
    "provenance of other types": lambda d: (d / "provenance.json").write_text(
        '{"config": 3, "counts": [], "fingerprint": null}'
    ),
    "provenance without knobs": lambda d: (d / "provenance.json").write_text(
        '{"config": {"pool": {}, "seeds": {}}, "counts": {"images": {}}, "fingerprint": ""}'
    ),
    "lineage cut": lambda d: os.truncate(d / "lineage.parquet", 500),
    "lineage without columns": lambda d: pl.DataFrame({"a": [1]}).write_parquet(d / "lineage.parquet"),
    "story of another kind": lambda d: pl.DataFrame({"id": [1]}).write_parquet(d / "story/picks.parquet"),
    "story cut": lambda d: os.truncate(d / "story/components.parquet", 100),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_dataset_of_a_stranger_is_one_line(
    built: tuple[Path, str], run_curate: Run, tmp_path: Path, change: str
) -> None:
    dataset = Path(shutil.copytree(built[0], tmp_path / "dataset"))
    CHANGES[change](dataset)
    for words in (("report", dataset), ("explain", dataset, "link.jpg")):
        code, said = run_curate(*words)
        assert code in (0, 2)
        assert "Traceback" not in said
        assert code == 0 or len(said.splitlines()) == 1, said
    assert code == 2 or change == "provenance without knobs"
