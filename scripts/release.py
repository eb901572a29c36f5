"""Check that a package is ready to be released, and print the commands that tag and publish it. Nothing is pushed.

    python scripts/release.py curate 0.2.0
    python scripts/release.py curate 0.2.0 --untried   # without trying its wheel, a minute

A package is released alone: its version, CHANGELOG and tag are its own.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("curate", "pretrain", "evaluate")
HEADING = re.compile(r"^## (?P<version>\d+\.\d+\.\d+) \((?P<date>unreleased|\d{4}-\d\d-\d\d)\)$", re.MULTILINE)


def main() -> int:
    """Say what is missing for a release, exit code 1, or how to make it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("version")
    parser.add_argument("--untried", action="store_true", help="do not install the wheel and run its smallest job")
    words = parser.parse_args()
    tag = f"lvd-{words.package}-v{words.version}"
    missing = list_missing(REPOSITORY / "packages" / words.package, words.version, datetime.date.today().isoformat())
    if ask_git("status", "--porcelain"):
        missing.append("the tree has changes that are not committed")
    if ask_git("tag", "--list", tag):
        missing.append(f"the tag {tag} is there already")
    if not missing and not words.untried:
        tried = subprocess.run([sys.executable, "scripts/try_wheels.py"], cwd=REPOSITORY)
        missing += ["a wheel that works alone"] * (tried.returncode != 0)
    if missing:
        print("\n".join(f"lvd-{words.package} {words.version}: {line}" for line in missing), file=sys.stderr)
        return 1
    print(f"git tag --annotate {tag} --message 'lvd-{words.package} {words.version}'")
    print(f"uv build --package lvd-{words.package} --out-dir dist --clear")
    print(f"git push origin {tag}")
    print("uv publish dist/*")
    return 0


def list_missing(folder: Path, version: str, today: str) -> list[str]:
    """What a package's folder lacks to be released as `version` today, a line each."""
    missing = [f"{place} says {found}" for place, found in read_versions(folder).items() if found != version]
    changes = HEADING.search((folder / "CHANGELOG.md").read_text(encoding="utf-8"))
    if changes is None:
        missing.append("CHANGELOG.md has no heading such as '## 0.2.0 (2026-11-21)'")
    elif changes["version"] != version or changes["date"] != today:
        missing.append(f"CHANGELOG.md begins with {changes[0]!r}, not with '## {version} ({today})'")
    return missing


def read_versions(folder: Path) -> dict[str, str]:
    """The version wherever a package states it: pyproject.toml, and `__version__`."""
    module = folder / "src" / f"lvd_{folder.name}" / "__init__.py"
    stated = re.search(r'^__version__ = "(.+)"$', module.read_text(encoding="utf-8"), re.MULTILINE)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"pyproject.toml": project["version"], "__version__": stated[1] if stated else "nothing"}


def ask_git(*words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
