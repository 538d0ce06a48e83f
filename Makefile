# Two commands: `make demo` to see it, `make test` to prove it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := check
.PHONY: demo test check lint types layers completions man api picture bench soak fuzz nemesis install clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("lykke needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/lykke demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

check: lint types layers test

completions man api: $(STAMP)
	$(BIN)/python -m tests.generators $@

picture: $(STAMP)
	TERM=xterm-256color $(BIN)/python -m tests.picture.make

soak: $(STAMP)
	EXPECT_RUNS=200 $(BIN)/python -m pytest tests/cli/test_expect.py -k run_after_run

fuzz: $(STAMP)
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit/test_fuzz.py tests/integration/test_sql.py --timeout 0 $(ARGS)

nemesis: $(STAMP)
	$(BIN)/python -m tests.nemesis $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks.start
	$(BIN)/python -m tests.benchmarks.live
	$(BIN)/python -m tests.benchmarks.backfill
	$(BIN)/python -m tests.benchmarks.history

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
