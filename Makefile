# Everything a developer types.  Needs a Python >= 3.11 and make, nothing else.
#
#   make demo [SCALE=0.25]   the main job on an embedded cluster, at full size or less
#   make test                lint, types, import contracts and tests (= make check)
#   make env                 what the tests need, to run some: .venv/bin/pytest tests/unit
#   make dask-suite          all of dask's own tests, on covey (an hour on two cores)
#   make slow                tests that take long: containers, kills, memory given back
#   make fix                 let ruff repair what it can
#   make matrix              clients and runners of every Python on this machine
#   make fuzz [COUNT=10000]  mutated bytes for everything that listens
#   make flood               10,000 connections that prove nothing
#   make sim [SEEDS=2000]    the whole of covey on virtual time; SEED=42 replays one
#   make sim-mutants         the same without each of its protections: all are missed
#   make soak [MINUTES=30]   real processes, and a nemesis among them; SEED=7 chooses it
#   make examples            every example at full size
#   make bench               the short benchmarks
#   make bench-full [ROUNDS=3]   all of them in full, beside the peers; takes its time
#   make web                 the dashboard's page, from its sources (needs Node 20)
#   make browser             the dashboard's tests in a real Chromium
#   make screenshots         pictures of its pages, into docs/images
#   make docs                the documentation, into docs/_build/html
#   make clean               remove what was built; the environments too
#
# PYTHON=python3.12 chooses the interpreter that makes the environment.

PYTHON ?= python3
VENV   ?= .venv
PEERS  ?= .venv-peers
SCALE  ?= 1
COUNT  ?= 1000000
SEEDS  ?= 2000
ROUNDS ?= 3

BIN    := $(VENV)/bin
PY     := $(BIN)/python
PIP    := $(PY) -m pip --quiet --disable-pip-version-check
SHELL  := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help env demo test check slow dask-suite fix matrix fuzz flood sim examples bench bench-full web browser screenshots docs clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,/^PYTHON=/p'

# pip compiles what it installs, but not what it installs as editable; and where Python
# is told to write no bytecode, every process would compile all of covey anew.
COMPILE := $(PY) -m compileall -q src/covey

# The environment.  A stamp remembers which extras are installed, so that the
# second `make` starts at once; a changed pyproject.toml installs again.

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "covey needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "No environment could be made in $(VENV).  On Debian and Ubuntu: apt install python3-venv" >&2; \
	    rm -rf $(VENV); exit 1; }

$(VENV)/.stamp-covey: pyproject.toml | $(PY)
	@echo "installing covey into $(VENV)"
	@$(PIP) install --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.stamp-%: pyproject.toml | $(PY)
	@echo "installing covey[$*] into $(VENV)"
	@$(PIP) install --editable '.[$*]'
	@$(COMPILE)
	@touch $@ $(VENV)/.stamp-covey

# The environment of the tests, to run a part of them: .venv/bin/pytest tests/unit -q
env: $(VENV)/.stamp-test

# The demo draws its picture with the standard library, so covey is all it needs.
demo: $(VENV)/.stamp-covey
	@$(PY) examples/demo.py --scale $(SCALE)

test check: $(VENV)/.stamp-test
	@$(COMPILE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 --dist worksteal
	$(DASK_SUITE) $(DASK_SAMPLE)

slow: $(VENV)/.stamp-test
	$(BIN)/pytest -q -m slow

# dask brings its own tests along; tests/dask_suite runs them on covey.
DASK_SUITE  := $(BIN)/pytest -q -c tests/dask_suite/suite.ini -p dask_suite --pyargs
DASK_SAMPLE := dask.tests.test_delayed dask.bag.tests.test_text \
    dask.array.tests.test_shuffle dask.dataframe.dask_expr.tests.test_cumulative

dask-suite: $(VENV)/.stamp-test
	nice $(DASK_SUITE) dask.tests dask.bag dask.array dask.dataframe

fix: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each Python that is here gets an environment with covey of its own.
matrix: $(VENV)/.stamp-test
	@for minor in 3.11 3.12 3.13; do \
	    $(PY) -m tests.matrix.environment $$minor $(VENV)-$$minor; done
	$(BIN)/pytest -q -m matrix tests/system tests/sim

fuzz: $(VENV)/.stamp-test
	$(PY) tests/security/fuzz.py $(COUNT) $(or $(SEED),0)

flood: $(VENV)/.stamp-test
	$(PY) tests/security/flood.py

sim: $(VENV)/.stamp-covey
	@$(PY) -m covey.sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

.PHONY: sim-mutants
sim-mutants: $(VENV)/.stamp-covey
	@$(PY) -m covey.sim --mutants

.PHONY: soak
soak: $(VENV)/.stamp-test
	$(PY) -m benchmarks.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),0)

examples: $(VENV)/.stamp-examples
	@set -e; for program in examples/0*.py; do \
	    echo "== $$program"; PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) $$program; done

bench: $(VENV)/.stamp-test
	@$(COMPILE)
	$(PY) -m benchmarks

bench-full: $(VENV)/.stamp-test $(PEERS)/.stamp-peers
	@$(COMPILE)
	$(PY) -m benchmarks --full --rounds $(ROUNDS) --json docs/_build/benchmarks \
	    --peers dask,ray,futures,chunked,joblib,pool,threads --peers-python $(PEERS)/bin/python

# The peers live in an environment of their own: covey's tests must never see one
# of them, and they must not see covey's.
$(PEERS)/.stamp-peers: pyproject.toml
	@test -d $(PEERS) || $(PYTHON) -m venv $(PEERS)
	@echo "installing the peers into $(PEERS)"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check '.[peers]'
	@touch $@

WEB := src/covey/dashboard/web

web:
	@command -v npm > /dev/null || { \
	    echo "The page is built with Node 20 or newer, and there is none here." >&2; exit 1; }
	cd $(WEB) && npm ci --no-audit --no-fund && npm run build

browser: $(VENV)/.stamp-test $(VENV)/.stamp-browser
	$(BIN)/pytest -q -m browser tests/browser

screenshots: $(VENV)/.stamp-test $(VENV)/.stamp-browser
	$(PY) tests/browser/screenshots.py docs/images

docs: $(VENV)/.stamp-docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(PEERS) build dist docs/_build .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache .hypothesis mandelbrot.png heatmap.png mydask.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
