# One word per habit; CI runs the same words. See README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?= $(CURDIR)

.PHONY: help build demo test test-rust test-python bench lint fmt clean cluster-up cluster-down

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.ready: requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	touch $@

build: $(BIN)/.ready ## .venv with the commands mover and node-agent, release engine
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet

demo: build ## back up, change, back up, list, verify, restore and compare (SOURCE=DIR for another tree)
	$(BIN)/python -m tests.demo "$(SOURCE)"

test: build ## every test (Rust, Python, with the real kopia)
	$(BIN)/python tests/run.py

bench: build ## the comparison with kopia, about 30 minutes (bench/run --quick: under 3)
	$(BIN)/python bench/run

lint: $(BIN)/.ready ## formatting, clippy, cargo deny, ruff, mypy, import contracts, stubtest
	$(BIN)/python tests/lint.py

fmt: $(BIN)/.ready ## rewrite sources in the one format
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet . || true

clean: ## remove what was built here
	rm -rf target $(VENV) repository/_native*.so
