# Each target sets up what it needs; a second call has nothing left to set up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := ./core[bdb,lmdb,zstd] $(patsubst %/pyproject.toml,./%,$(sort $(wildcard plugins/*/pyproject.toml)))
# The stamps stand in the venv: what they vouch for goes with it.
CAN_RUN := $(VENV)/.can-run
CAN_TEST := $(VENV)/.can-test
CAN_BENCH := $(VENV)/.can-bench

.PHONY: help run test soak lint format bench dist clean
.DEFAULT_GOAL := help

help: ## Show this help
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 17

run: $(CAN_RUN) ## Run the daemon in the sandbox ./run, on a machine without a mail server
	$(BIN)/pop-before-smtp run --sandbox ./run

test: $(CAN_TEST) lint ## Run ruff, mypy and all tests (those of whole systems need root)
	$(BIN)/pytest

soak: $(CAN_TEST) ## Kill the daemon for an hour: under 100,000 logins, and 300 times for each type of map
	SOAK=100000 KILLS=300 $(BIN)/pytest -rP tests/test_soak.py tests/test_kills.py

lint: $(CAN_TEST) ## Run ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(CAN_TEST) ## Let ruff format the code and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(CAN_BENCH) ## Print a table of speed, latency and memory, and plot how cost grows
	$(BIN)/python -m bench

dist: $(CAN_RUN) ## Build the wheels of all distributions into dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist $(DISTRIBUTIONS)
	@ls dist

clean: ## Remove all that make has made
	rm -rf $(VENV) run dist bench/data bench/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(CAN_RUN): core/pyproject.toml $(wildcard plugins/*/pyproject.toml) .ci/packages
	sh .ci/packages run $(PYTHON)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(addprefix --editable ,$(DISTRIBUTIONS))
	@touch $@

$(CAN_TEST): $(CAN_RUN) requirements-dev.txt
	sh .ci/packages test $(PYTHON)
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	@touch $@

$(CAN_BENCH): $(CAN_RUN) bench/requirements.txt
	$(BIN)/pip install --quiet --requirement bench/requirements.txt
	@touch $@
