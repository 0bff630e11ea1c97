# `make run` and `make test` do everything on a fresh machine that has Python 3.11 or newer; nothing else is needed.
PYTHON ?= python3
BIN := .venv/bin
export KEDRO_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1
# without bytecode on disk every process compiles its libraries anew, and takes 14 s to start instead of 4
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test bench lint viz clean help

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

setup: .venv/ready ## make .venv, or bring it up to date
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Imprint needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@# compiling every module of every package is two fifths of the work, and most are never imported
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

run: setup ## the whole pipeline on the embedded corpus; ends with a table and data/08_reporting/report.html
	$(BIN)/kedro run

test: setup ## every test that needs no real data, a process for each core
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: setup ## the fleet against stock PEFT, side by side; ends with a table and a line of JSON
	$(BIN)/python benchmarks/bench.py

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .venv/import-linter

viz: setup ## a static page of the DAG with previews, at http://localhost:4141
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[viz]"
	rm -rf build
	$(BIN)/kedro viz build --include-previews
	@test -s build/api/main || { echo "kedro viz build wrote no page: see its message above"; exit 1; }
	$(BIN)/python -m http.server 4141 --bind 127.0.0.1 --directory build

clean: ## remove what runs made: never the raw layer, never conf/local
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
	find data -mindepth 2 -not -path 'data/01_raw/*' -not -name README.md -delete
