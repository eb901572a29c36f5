# Two commands are all a newcomer needs: `make quickstart` and `make test`.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --locked --no-sync
# Two workers with one thread each: tests are small, and threads that wait for each other on busy cores take ten times as long.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile

# Some machines forbid Python to keep compiled modules; each start of a tool then compiles torch anew, five seconds of a core.
unexport PYTHONDONTWRITEBYTECODE

BENCH = $(RUN) python -m benchmarks.run $(if $(DATA),--shared $(DATA)) $(if $(SCRATCH),--scratch $(SCRATCH)) $(if $(QUICK),--quick)

.PHONY: help install quickstart test test-fast bench bench-gpu check docs docs-blocks format build wheels lowest clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install:  ## install uv if it is missing, then the locked environment
	@command -v $(UV) >/dev/null 2>&1 || python3 -m pip install -qq --target .uv uv
	@test -d .venv || echo "Installing the locked environment into .venv: 8 GB of disk on Linux, minutes on a fast line."
	@$(UV) sync --locked --quiet

quickstart: install  ## the whole chain on a rendered image world: curate, pretrain, evaluate
	@$(RUN) bash scripts/quickstart.sh

test: install  ## every test
	@$(PYTEST)

test-fast: install  ## the tests that take seconds
	@$(PYTEST) -m "not slow"

bench: install  ## ours beside the peers; ONLY=pretrain/training_step, QUICK=1, DATA=FOLDER, SCRATCH=FOLDER
	@$(BENCH) $(ONLY)

bench-gpu: install  ## the benchmarks of a GPU; QUICK=1 tries them without one
	@$(BENCH) --gpu $(ONLY)

check: install  ## format, lint, types, import floors, lock up to date
	@$(UV) lock --check --quiet
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) lint-imports

docs: install  ## the documentation's site, into site/; a dead link or a stale page is an error
	@$(RUN) python scripts/reference_pages.py --check
	@$(RUN) python scripts/scaling.py --check
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --strict

docs-blocks: install  ## run every code block of the docs but those that need a GPU, a network or data; about an hour
	@$(RUN) python scripts/run_docs.py

format: install  ## rewrite the code in the house's format
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

build: install  ## wheels and source archives of the three packages
	@$(UV) build --all-packages --quiet

wheels: install  ## each wheel alone on Python 3.11, 3.12, 3.13, then all beside Hugging Face's evaluate; fetches what is missing
	@$(RUN) python scripts/try_wheels.py --python 3.11 3.12 3.13 --beside

lowest: install  ## each package's tests with the oldest libraries that it allows; fetches them
	@$(RUN) python scripts/lowest_versions.py

clean:  ## remove what the quickstart and the tools' caches wrote
	rm -rf quickstart site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist
