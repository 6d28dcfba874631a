# Everything here works in a fresh clone with nothing installed but Python 3.11 or newer (and git). `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# the first of these that is a complete Python 3.11 to 3.13
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13 python /usr/local/bin/python3 /usr/bin/python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
JOBS ?= all
TEST_WORKERS ?= 2
# the tests of a file in one process, so that what they share is made once; the slow files first (tests/conftest.py)
PYTEST := python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
UI_PORT ?= 5000
TESTS ?= $(firstword $(subst ., ,$(ROOM)))

# the tools of the environment are found whether or not it was activated
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1
# each stage is a separate process, and without bytecode each would compile torch again
unexport PYTHONDONTWRITEBYTECODE
# the system's certificates, as in pip
export UV_SYSTEM_CERTS := true
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export NO_MKDOCS_2_WARNING := true

.PHONY: help venv demo grid repro report test test-quick mutants lint docs format ui lock clean clean-all

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

venv: $(STAMP) ## the environment in .venv, exactly as requirements.lock says

# uv's own version comes from the lock as well. The path of the editable install is made relative: Python 3.11 decodes .pth
# files by the locale, and under LC_ALL=C it would not start in a folder whose name has an umlaut.
$(STAMP): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.11, 3.12 or 3.13 with venv and ensurepip on PATH; on Debian: apt-get install python3-venv; or use make PYTHON=/path/to/python" >&2; exit 2; }
	@[ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip --disable-pip-version-check install --quiet "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@echo ../../../.. > $(VENV)/lib/python3*/site-packages/_editable_impl_tgdfer.pth
	@touch $@

demo: venv ## the whole pipeline on the embedded data set: from clips to tables, figures and the page
	snakemake --profile local --cores $(JOBS) all
	@echo
	@echo "The report:  $(CURDIR)/reports/index.html"
	@echo "The tables:  $(CURDIR)/reports/tables/    the figures: $(CURDIR)/reports/figures/"
	@echo "Every run:   make ui   (MLflow on http://127.0.0.1:$(UI_PORT))"

grid: venv ## every variant of params.yaml, not only those of its `grid`
	snakemake --profile local --cores $(JOBS) --config grid=all

repro: venv ## the same with DVC
	dvc repro

report: venv ## tables, figures and page again, from finished runs
	python -m tgdfer report

test: venv ## all tests, with whole graphs, and SLURM where it is installed (minutes)
	$(PYTEST)

test-quick: venv ## the tests that need neither a whole graph nor SLURM
	$(PYTEST) -m "not graph and not slurm"

# Only the tests whose folder, file or name contains TESTS are run. A mutant that they miss costs all of those that reach
# it: minutes for a module such as features.bags, hours for a room whose tests train or draw.
mutants: venv ## change a room's code in small ways and list what its tests miss; ROOM=features.bags TESTS=bags
	OMP_NUM_THREADS=1 PYTEST_ADDOPTS='-k "$(TESTS)"' mutmut run "tgdfer.$(ROOM)*"
	mutmut results

lint: venv ## check format, style, types, Snakemake's lint and the documentation
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint
	mkdocs build --strict --quiet --site-dir site

docs: venv ## the documentation as a site in site/; dead links are errors
	mkdocs build --strict --quiet --site-dir site
	@echo "The documentation:  $(CURDIR)/site/index.html"

format: venv ## format the code, list its modules in dvc.yaml, and write docs/parameters.md
	python workflow/dvc_code.py
	python workflow/parameters_page.py
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflow

ui: venv ## every run in the MLflow UI, on 127.0.0.1 only; the charts of running trainings grow
	@[ -d runs ] || { echo "error: runs: no runs yet; run make demo first" >&2; exit 2; }
	python -m tgdfer tracking
	@uri="$$(python -c 'from tgdfer.config.params import load_params; print(load_params().tracking.place)')"; \
	case "$$uri" in http*) echo "the runs are on a server, which has its own UI: $$uri"; exec python -m tgdfer --quiet tracking --follow;; esac; \
	python -m tgdfer --quiet tracking --follow & trap "kill $$!" EXIT; \
	python -c 'from tgdfer.config.params import load_params; from tgdfer.tracking.server import pages; [print("Open  http://127.0.0.1:$(UI_PORT)/" + page) for page in pages(load_params())]'; \
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri "$$uri" --host 127.0.0.1 --port $(UI_PORT)

lock: venv ## requirements.lock again, from pyproject.toml
	uv pip compile --quiet --generate-hashes --all-extras --universal --python-version 3.11 --no-emit-index-url --output-file requirements.lock pyproject.toml

clean: ## delete all outputs, trainings and MLflow's database; keep the environment and your raw data
	find data reports -mindepth 1 -maxdepth 1 ! -name README.md ! -name raw -exec rm -rf {} +
	rm -rf data/raw/demo models runs transfer checkpoints mlflow logs .snakemake

clean-all: clean ## also delete the environment and all caches
	rm -rf $(VENV) site .dvc/cache .dvc/tmp .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants
