# Every task has a line of help: `make help`. CI runs the same targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV    := .venv
BIN     := $(VENV)/bin
STAMPS  := $(VENV)/.stamps
RUST    := $(shell find proxy Cargo.toml Cargo.lock -name '*.rs' -o -name 'Cargo.*' 2>/dev/null)

.PHONY: fuzz soak help build demo test check fmt contract docs bench bench-micro bench-control conformance clean system peers

help:  ## list the tasks
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(STAMPS)/python $(BIN)/pipy  ## build pipy (release) and the Python package into .venv

demo: system build  ## the bookstore, end to end: denied, allowed, shifted, encrypted; leaves no trace
	$(BIN)/fsm demo

test: system peers build  ## all tests of both languages, after the checks
	tools/check
	tools/test

check: build  ## formatting, lints, types, layers, tidiness; no tests
	tools/check

fmt: build  ## format everything
	cargo fmt --all
	$(BIN)/ruff format -q src examples tests tools
	$(BIN)/ruff check -q --fix src examples tests tools

contract:  ## write the contract's JSON Schema anew
	cargo run -q -p pipy-config --example schema > contract/proxy-config.schema.json

docs: build  ## write the generated reference pages anew
	$(BIN)/python -m fsm.cli.reference > docs/reference/cli.md
	$(BIN)/python -m fsm.cli.reference values > docs/reference/install-values.md
	$(BIN)/python -m fsm.manifests.reference mesh-config > docs/reference/mesh-config.md
	$(BIN)/python -m fsm.manifests.reference policies > docs/reference/policies.md

conformance: build  ## h2spec, desync corpus and TLS scan against the running proxy; fails on any finding, writes pages
	tools/setup conformance
	$(BIN)/python -m tools.conformance --write
	tools/setup peers
	PYTHONPATH=tests/differential/support:tests/local/proxy/support $(BIN)/python -m differential --write
	$(BIN)/python -m tools.conformance.scan --write

soak: build peers  ## a thousand restarts and changes under load, a million connections (minutes)
	SOAK=1 $(BIN)/pytest tests/local/strict/test_soak.py

bench: system build  ## pipy beside nginx, HAProxy and Envoy, in one run (root)
	tools/setup bench
	$(BIN)/python -m tools.bench

bench-control: build  ## the control plane with 1,000 services and 2,000 proxies
	$(BIN)/python -m tools.bench_control --services 1000 --proxies 2000

bench-micro:  ## time the proxy's hot pieces, each alone
	cargo bench -q -p pipy-mesh --bench hot

FUZZ_SECONDS ?= 60
fuzz:  ## feed garbage to every parser of foreign bytes, FUZZ_SECONDS each (nightly Rust, cargo-fuzz)
	tools/fuzz $(FUZZ_SECONDS)

system:  ## install what is missing of the Debian packages that demo and tests use
	tools/setup system

peers:  ## install what is missing of the real programs that the tests use
	tools/setup peers

clean:  ## remove what builds made
	rm -rf target build $(VENV) src/*.egg-info

$(STAMPS)/python: pyproject.toml
	tools/setup python
	@mkdir -p $(STAMPS) && touch $@

$(BIN)/pipy: $(RUST) | $(STAMPS)/python
	cargo build --release --locked -p pipy
	install -m 755 target/release/pipy $@
