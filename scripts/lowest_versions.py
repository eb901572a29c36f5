"""Run a package's tests with the lowest versions of other libraries that it allows.

    python scripts/lowest_versions.py                                # each package: `make lowest`
    python scripts/lowest_versions.py curate --python 3.12 tests/curate/test_cli.py

Everything that a pyproject.toml names is taken as old as it allows, what those need in turn as new as they allow: what
a user's environment may look like. Needs uv and a network; tests marked slow are left out. The versions are printed as
rows for docs/releasing.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("curate", "pretrain", "evaluate")
EXTRAS = {"curate": "encoders,moderation,ray", "pretrain": "timm", "evaluate": "video"}  # that tests of the package use
TEST_TOOLS = ["hypothesis>=6.100", "pytest>=8.3", "pytest-xdist>=3.6", "scikit-learn", "transformers"]


def main() -> int:
    """Test the packages that were named, or all; the exit code is 1 if any of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", choices=PACKAGES, help="one of them; without it, all")
    parser.add_argument("tests", nargs="*", help="test files of the package; without them, all")
    parser.add_argument("--python", default="3.11", help="a version or the path of an interpreter")
    words = parser.parse_intermixed_args()
    failed = [
        package
        for package in ([words.package] if words.package else PACKAGES)
        if not test_lowest(package, words.python, words.tests or [f"tests/{package}"])
    ]
    print(f"failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def test_lowest(package: str, python: str, tests: list[str]) -> bool:
    """Install a package with its lowest dependencies into an environment of its own and run its tests there."""
    with tempfile.TemporaryDirectory(prefix=f"lvd-{package}-") as folder:
        pins, environment = Path(folder) / "pins.txt", Path(folder) / "environment"
        named = f"--editable ./packages/{package}[{EXTRAS[package]}]\n"
        lowest = ["--resolution", "lowest-direct", "--refresh-package", f"lvd-{package}", "--python", python]
        uv("pip", "compile", *lowest, "--no-header", "--no-annotate", "--output-file", str(pins), "-", given=named)
        uv("venv", "--python", python, str(environment))
        interpreter = str(environment / "bin" / "python")
        uv("pip", "install", "--python", interpreter, "--requirement", str(pins), *TEST_TOOLS)
        print("\n".join(list_rows(package, pins.read_text())), flush=True)
        run = [interpreter, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", *tests]
        return subprocess.run(run, cwd=REPOSITORY).returncode == 0


def uv(*words: str, given: str | None = None) -> None:
    """Run uv quietly; end with its own words if it fails."""
    program = os.environ.get("UV", "uv")  # that runs this: `make install` may have put it beside the sources
    result = subprocess.run([program, *words, "--quiet"], cwd=REPOSITORY, input=given, text=True)
    if result.returncode:
        sys.exit(f"uv {' '.join(words[:2])} failed")


def list_rows(package: str, pins: str) -> list[str]:
    """A row per library that the package names: its bound, and the version that was taken."""
    taken = dict(re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE))
    project = tomllib.loads((REPOSITORY / "packages" / package / "pyproject.toml").read_text())["project"]
    extras = [line for name in EXTRAS[package].split(",") for line in project["optional-dependencies"][name]]
    rows = []
    for line in [*project["dependencies"], *extras]:
        name = re.split(r"[<>=!~ ;\[]", line)[0]
        if name in taken:
            rows.append(f"| {package} | {line.split(' ;')[0]} | {taken[name]} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
