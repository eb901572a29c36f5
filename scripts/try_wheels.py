"""Build the three wheels and try each alone: an empty environment, an empty folder, its smallest real job.

    python scripts/try_wheels.py                                   # with this Python
    python scripts/try_wheels.py --python 3.11 3.12 3.13 --beside  # `make wheels`

Versions of other libraries are those of uv.lock, so that what `make install` fetched is linked, not fetched again. The
jobs are a chain whose links share files only: curate renders and curates, pretrain trains on that, evaluate measures
the model. --beside then installs all three beside Hugging Face's library `evaluate`, whose name is near.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("curate", "pretrain", "evaluate")  # in the order of the chain


class Job(NamedTuple):
    """A command, its exit code, a text that must stand in what it prints, and whether `make test` does without it."""

    words: list[str]
    code: int = 0
    said: str = ""
    more: bool = False


DRAW_ENCODER = """
import torch, transformers
shape = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8)
transformers.Dinov2Model(transformers.Dinov2Config(**shape)).save_pretrained("encoder")
size = dict(height=32, width=32)
transformers.BitImageProcessor(size=dict(shortest_edge=32), crop_size=size).save_pretrained("encoder")
"""
COUNT_ROWS = "import datasets; print('rows', datasets.load_dataset('curated', split='train').num_rows > 0)"
OPEN_MODEL = "import transformers; print(transformers.AutoModel.from_pretrained('run/model').config.model_type)"
SETS = ["--pool", "corpus/pool", "--seeds", "objects=corpus/seeds", "--exclude", "test=corpus/test"]
BUILD = ["curate", "build-lvd", *SETS, "--out", "curated", "execution.engine=inline"]
TRAIN = ["pretrain", "tiny", "data.path=curated", "out=run", "optim.steps=2", "optim.warmup=1", "optim.batch_size=4"]
TRAIN += ["data.workers=0", "model.depth=1", "crops.global_size=48", "crops.local_size=24"]
JOBS = {
    "curate": [
        Job(["curate", "--version"], said="lvd-curate "),
        Job(["curate", "sample-corpus", "corpus", "--images", "40", "--workers", "1"]),
        Job(["python", "-c", DRAW_ENCODER]),
        Job([*BUILD, "embed.encoder=encoder"], said="curated: built"),
        Job(["python", "-c", COUNT_ROWS], said="rows True", more=True),
        Job(["curate", "explain", "curated", "FIRST_IMAGE"], said="kept"),
        Job(["curate", "plan", *SETS, "embed.encoder=encoder", "--sample", "4"], said="embed", more=True),
        Job(
            [*BUILD[:-3], "--out", "no", "embed.encoder=timm:vit_tiny"], 2, "the extra lvd-curate[encoders]", more=True
        ),
    ],
    "pretrain": [
        Job(["pretrain", "--version"], said="lvd-pretrain "),
        Job(["pretrain", "--launch-file", "8gpu"], said="8gpu.yaml"),
        Job(TRAIN, said="run/model"),
        Job([*TRAIN[:3], "out=no", "init_from=timm:vit_small_patch14_dinov2"], 2, "lvd-pretrain[timm]", more=True),
    ],
    "evaluate": [
        Job(["evaluate", "--version"], said="lvd-evaluate "),
        Job(["python", "-c", OPEN_MODEL], said="dinov2", more=True),
        Job(["evaluate", "knn", "--ckpt", "run", "--data", "corpus", "--baseline", "pixels"], said="report.html"),
        Job(["evaluate", "tasks"], said="imagenet"),
    ],
}


def main() -> int:
    """Try the wheels on every Python that was named; the exit code is 1 if a job fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="versions or paths of interpreters")
    parser.add_argument("--beside", action="store_true", help="also all three beside Hugging Face's evaluate")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lvd-wheels-") as folder:
        place = Path(folder)
        wheels = build_wheels(place / "dist")
        for python in words.python:
            for package in PACKAGES:
                began, spent = time.monotonic(), spent_seconds()
                install_alone(package, wheels[package], python, place)
                run_jobs(package, place)
                took = f"{time.monotonic() - began:.0f} s, {spent_seconds() - spent:.0f} s of a core"
                print(f"Python {python}, lvd-{package} alone: {took}", flush=True)
            shutil.rmtree(place / "work")
        if words.beside:
            install_beside(wheels, words.python[0], place)
            print("all three beside Hugging Face's evaluate: each is itself")
    return 0


def spent_seconds() -> float:
    """Processor time of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def build_wheels(folder: Path) -> dict[str, Path]:
    """Build wheels and source archives; the wheel of each package."""
    uv("build", "--all-packages", "--out-dir", str(folder))
    return {package: next(folder.glob(f"lvd_{package}-*.whl")) for package in PACKAGES}


def install_alone(package: str, wheel: Path, python: str, place: Path) -> None:
    """Make the environment anew and install one wheel with what uv.lock says that it needs, no extras."""
    environment = place / "environment"
    uv("venv", "--clear", "--python", python, str(environment))
    locked = ["--frozen", "--package", f"lvd-{package}", "--no-default-groups", "--no-install-workspace"]
    uv("sync", *locked, "--python", python, UV_PROJECT_ENVIRONMENT=str(environment))
    interpreter = str(environment / "bin" / "python")
    uv("pip", "install", "--no-deps", "--offline", "--python", interpreter, str(wheel))
    uv("pip", "check", "--python", interpreter)


def run_jobs(package: str, place: Path, *, more: bool = True) -> None:
    """Run a package's jobs in the chain's folder, all or the least, and see that no other package of ours is there.

    Raises:
        SystemExit: a job ended otherwise than it should.
    """
    others = [f"lvd_{name}" for name in PACKAGES if name != package]
    alone = f"from importlib.util import find_spec; print([n for n in {others} if find_spec(n)])"
    for job in [Job(["python", "-c", alone], said="[]"), *JOBS[package]]:
        if more or not job.more:
            run_job(job, place)


def run_job(job: Job, place: Path) -> None:
    """Run one job with the environment's programs, without a network, and hold it against what is expected."""
    work = place / "work"
    work.mkdir(exist_ok=True)
    first = next(
        (f"{path.relative_to(work / 'corpus/seeds')}" for path in sorted(work.glob("corpus/seeds/**/*.jpg"))), ""
    )
    words = [first if word == "FIRST_IMAGE" else word for word in job.words]
    words[0] = str(place / "environment" / "bin" / words[0])
    result = subprocess.run(words, cwd=work, env=lone_variables(place), capture_output=True, text=True)
    if result.returncode != job.code or job.said not in result.stdout + result.stderr or "Traceback" in result.stderr:
        sys.exit(f"{' '.join(job.words)}\nexit code {result.returncode}\n{result.stdout}\n{result.stderr}")


def lone_variables(place: Path) -> dict[str, str]:
    """Environment variables of a user who has nothing else; compiled modules outlive an environment, at its place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "UV_"))}
    own = {"PATH": f"{place / 'environment' / 'bin'}{os.pathsep}{os.environ['PATH']}", "HF_HOME": str(place / "hub")}
    return kept | own | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(place / "compiled")}


def install_beside(wheels: dict[str, Path], python: str, place: Path) -> None:
    """Install all three and Hugging Face's evaluate; both the library and our command answer to their names."""
    interpreter = str(place / "environment" / "bin" / "python")
    uv("venv", "--clear", "--python", python, str(place / "environment"))
    uv("pip", "install", "--python", interpreter, "evaluate", *map(str, wheels.values()))
    library = "import evaluate, lvd_curate, lvd_pretrain, lvd_evaluate; print(evaluate.EvaluationModule.__name__)"
    run_job(Job(["python", "-c", library], said="EvaluationModule"), place)
    for package in PACKAGES:
        run_job(Job([package, "--version"], said=f"lvd-{package} "), place)


def find_uv() -> str:
    """The uv that runs this, which says where it is: `make install` puts it beside the sources, not on the path."""
    return os.environ.get("UV", "uv")


def uv(*words: str, **variables: str) -> None:
    """Run uv in the repository.

    Raises:
        SystemExit: it failed; with its own words.
    """
    given = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | variables
    result = subprocess.run([find_uv(), *words], cwd=REPOSITORY, env=given, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"uv {' '.join(words)}\n{result.stderr}")


if __name__ == "__main__":
    sys.exit(main())
