# The few names people type. Each one sets up what it needs from a clean clone; nothing is done twice:
# `.venv` is made once, the locked packages are installed when their lock changes, the extension is rebuilt
# when a Rust source or a manifest changes.
#
#   make test ARGS="-k codes"      arguments for pytest
#   make bench NAME=signature      one part of the benches
#   PYTHON=/path/to/python3        which Python makes .venv (3.11 or newer)
#   CARGO_TARGET_DIR=...           where Cargo builds (default: target/)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# RUSTFLAGS replaces the flags of .cargo/config.toml instead of adding to them: signature verification would lose
# its AVX-512 backend without a word.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS

# maturin sets the first of these for its own build; said for every Cargo call, PyO3 is configured once and not
# compiled again each time `make lint` follows `make test`.
export PYO3_BUILD_EXTENSION_MODULE := 1
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

bin := .venv/bin
locked := .venv/locked.stamp
extension := .venv/extension.stamp
mutants := build/mutants/extension.stamp

rust_sources := $(shell find rust -path rust/fuzz -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print)
manifests := Cargo.toml Cargo.lock .cargo/config.toml pyproject.toml

.PHONY: help setup demo test test-rust test-python lint lint-rust lint-python format bench fuzz audit chaos sim sim-long sim-mutants twins docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(extension) ## .venv, the locked packages and the extension, ready to use

demo: $(extension) ## four cities on this machine, one fact a line
	@$(bin)/cityid demo

test: ## every test: Rust first, then Python
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-python

test-rust: | $(bin)/python
	@cargo test --quiet --locked --release -p cityid-core -p cityid-consensus -p cityid-tables -p cityid-fuzz

test-python: $(extension)
	@$(bin)/python -m pytest $(ARGS)

lint: lint-python lint-rust ## style, types, stubs, imports, in both languages; changes nothing

lint-python: $(extension)
	@$(bin)/ruff check --quiet
	@$(bin)/ruff format --quiet --check
	@$(bin)/mypy --no-error-summary
	@MYPYPATH=python $(bin)/stubtest --concise cityid._native
	@$(bin)/lint-imports --no-logo

lint-rust: | $(bin)/python
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --release --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --release --no-deps -p cityid-core -p cityid-consensus -p cityid-tables

format: $(locked) ## rewrite the sources in the house style
	@$(bin)/ruff check --quiet --fix-only
	@$(bin)/ruff format --quiet
	@cargo fmt --all

bench: $(extension) ## measure; writes benches/results/latest.json
	@$(bin)/python -m benches $(NAME)

fuzz: $(if $(filter python,$(NAME)),$(extension)) ## search for inputs that break a decoder or verifier: NAME=answer SECONDS=60, NAME=python
	@rust/fuzz/run "$(NAME)" "$(SECONDS)"

audit: $(extension) ## dependencies: hashes, sources, licences, advisories (builds cargo-deny once)
	@$(bin)/python -m pytest -q tests/unit/test_dependencies.py
	@export PATH="$(CURDIR)/build/tools/bin:$$PATH"; \
	if ! command -v cargo-deny >/dev/null; then \
		echo 'make audit: building cargo-deny into build/tools; this takes some minutes, once' >&2; \
		cargo install --quiet --locked --root build/tools cargo-deny \
			|| { echo 'make audit: cargo-deny cannot be built here, so only the part above was checked' >&2; exit 1; }; \
	fi; \
	for manifest in Cargo.toml rust/fuzz/libfuzzer/Cargo.toml; do \
		cargo deny --manifest-path $$manifest --config deny.toml check licenses bans sources; \
	done; \
	cargo deny fetch db 2>/dev/null \
		|| { echo 'make audit: ADVISORIES WERE NOT CHECKED: their database is out of reach. Next: run this where it is in reach' >&2; exit 0; }; \
	cargo deny check advisories

chaos: $(extension) ## real nodes in namespaces, with faults of the kernel (root); writes build/chaos/results.md
	@$(bin)/python -m tests.chaos $(ARGS)

# Without ARGS the runs that a change has to pass: ten simulated days of four to seven cities, an hour of twenty, and
# dense trouble, a transaction a second and a fault a minute at least.
sim: $(extension) ## seeded clusters on virtual time: ten days in minutes, or ARGS="--seeds 1000"
	@$(bin)/cityid sim $(if $(ARGS),$(ARGS),--suite ci --jobs $$(nproc) --keep build)

sim-long: $(extension) ## a simulated year; what was interrupted goes on where it was
	@mkdir -p build
	@$(bin)/cityid sim --suite year --jobs $$(nproc) --keep build --resume build/sim-year.jsonl

sim-mutants: $(mutants) ## plant every known bug in turn: each must be found
	@PYTHONPATH=build/mutants $(bin)/python -m cityid mutants $(ARGS)

twins: $(extension) ## every city but one honest, one running twice: schedules of partitions, none may fork
	@$(bin)/cityid twins $(ARGS)

docs: $(extension) ## API pages of both languages, under build/docs
	@RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --release --no-deps -p cityid-core -p cityid-consensus -p cityid-tables
	@rm -rf build/docs && mkdir -p build/docs && cp -r "$${CARGO_TARGET_DIR:-target}/doc" build/docs/rust
	@# Client is imported when it is first asked for, and pdoc only sees what is there.
	@$(bin)/python -W error::UserWarning -c 'import cityid; cityid.Client; from pdoc.__main__ import cli; cli()' \
		--output-directory build/docs/python cityid cityid.client cityid.keys cityid.genesis
	@echo 'build/docs/rust/cityid_core/index.html  build/docs/python/cityid.html'

lock: ## pin the newest packages that pyproject.toml allows (needs uv)
	@command -v uv >/dev/null || { echo 'make lock: uv is not on the PATH; it writes the lock files. Next: pip install uv' >&2; exit 1; }
	@uv pip compile --quiet --universal --generate-hashes --no-header --upgrade pyproject.toml -o requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --upgrade --group dev \
		--constraints requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove what make made, except Cargo's folder (cargo clean)
	@rm -rf .venv build dist benches/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -f python/cityid/_native*.so
	@find python tests examples benches -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- what the names above stand on ---

$(bin)/python:
	@command -v cargo >/dev/null || { echo 'cityid needs a Rust toolchain (cargo, 1.88 or newer) and finds none on the PATH. Next: install one, for example with rustup.' >&2; exit 1; }
	@for python in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo 'cityid needs Python 3.11 or newer and finds none on the PATH. Next: install one, or name it: make PYTHON=/path/to/python3' >&2; \
		exit 1; \
	fi; \
	"$$found" -m venv .venv || { rm -rf .venv; echo 'The virtual environment cannot be made. On Debian and Ubuntu the package python3-venv is often missing.' >&2; exit 1; }

$(locked): requirements-dev.lock | $(bin)/python
	@echo 'Installing the locked packages'
	@$(bin)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@

# After the locked install, and without dependencies: pip must not choose a version by itself. maturin is found by PATH.
$(extension): $(locked) $(rust_sources) $(manifests)
	@echo 'Building the extension'
	@PATH="$(CURDIR)/$(bin):$$PATH" python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The package once more, by links, with an extension in which bugs can be planted (Cargo feature `mutants`). It lies where no
# install looks: only who puts build/mutants before everything else on the path gets it.
$(mutants): $(extension)
	@echo 'Building the extension in which bugs can be planted'
	@cargo build --quiet --locked --release -p cityid-python --features mutants
	@rm -rf build/mutants && mkdir -p build/mutants/cityid
	@ln -s $(CURDIR)/python/cityid/* build/mutants/cityid/
	@rm build/mutants/cityid/_native.abi3.so
	@cp "$${CARGO_TARGET_DIR:-target}/release/lib_native.so" build/mutants/cityid/_native.abi3.so
	@touch $@
