# Every target makes the environment that it needs, once; the second time it starts at once and needs no network.
#
#   make demo     train one network on real data on every backend found
#   make test     the whole suite (about 10 minutes on 2 cores from nothing, downloads included)
#   make check    lint, format and types
#   make bench    the benchmarks, side by side with PyTorch and NumPy (installs PyTorch)
#   make clean    remove the environment and everything that was built
#
# PYTHON=python3.12 names another interpreter, ARGS="..." adds arguments to the command that runs:
#   make test ARGS="tests/unit -k softmax"

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test check bench clean
.DELETE_ON_ERROR:
.NOTPARALLEL: # two installations into one environment would disturb each other

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.has-demo
	@$(BIN)/python -m corelib demo $(ARGS)

# Workers share the two or more cores; more than eight only repeat each other's start-up. A group of tests that
# share something costly (a built wheel) stays on one worker.
test: $(VENV)/.has-test
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --max-worker-restart 0 --dist loadgroup $(ARGS)

check: $(VENV)/.has-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(ARGS)

bench: $(VENV)/.has-bench
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for the empty environment, one for each set of extras: a stamp is written only when its installation is
# whole, so that an interrupted one is simply done again. COVERS names smaller sets that came with it.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "corelib needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | tail -n 1)" >&2; \
	    echo "Name a newer one: make $(firstword $(MAKECMDGOALS) demo) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.has-demo: EXTRAS := demo
$(VENV)/.has-demo: SIZE := 160 MB
$(VENV)/.has-test: EXTRAS := test,cuda-dev
$(VENV)/.has-test: COVERS := demo
$(VENV)/.has-test: SIZE := 290 MB, of which 96 MB are the CUDA compiler and its headers; no GPU is needed
$(VENV)/.has-check: EXTRAS := check
$(VENV)/.has-check: SIZE := 120 MB
$(VENV)/.has-bench: EXTRAS := demo,bench
$(VENV)/.has-bench: COVERS := demo
$(VENV)/.has-bench: SIZE := PyTorch, from 200 MB to 3 GB depending on which build the index offers

$(VENV)/.has-%: $(VENV)/.created pyproject.toml
	@echo "Installing corelib[$(EXTRAS)] into $(VENV), once (download: $(SIZE))"
	@$(PIP) install --quiet --editable '.[$(EXTRAS)]'
	@touch $@ $(COVERS:%=$(VENV)/.has-%)
