# Bare `make` lists the targets. VENV names the virtual environment to make and use.
VENV ?= .venv
PY := $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup run test test-docs test-all mutants fuzz lint lowest changes bench docs validate dashboard grid pictures clean

help:      ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(VENV)/.ready  ## make the virtual environment

run: setup  ## set up and run the main job: 8 racks serve an hour of chat
	$(VENV)/bin/dcsim run topologies/8rack.yaml

test: setup  ## set up and run the tests, in a process for each core (`pytest` alone: in one)
	$(PY) -m pytest -n logical --maxprocesses 8 --dist worksteal

test-docs: setup  ## what README and docs say: all their commands, which take minutes
	$(PY) -m pytest -m "slow or not slow" tests/test_docs.py

test-all: setup  ## the tests, slow ones included
	$(PY) -m pytest -m "slow or not slow"

mutants: setup  ## plant 100 small faults, one at a time, and name those that no test notices (SEED=7 others)
	$(PY) tests/mutants.py --seed $(or $(SEED),1)

fuzz: setup  ## 20,000 changed inputs for every reader (half an hour; COUNT=2000 SEED=2 for other ones)
	cd tests && ../$(PY) -m fuzzing --count $(or $(COUNT),20000) --seed $(or $(SEED),1)

lint: setup  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lowest:  ## run with the lowest versions of libraries that pyproject.toml allows
	rm -rf .lowest
	python3.11 -m venv .lowest
	.lowest/bin/pip install --quiet --constraint tests/lowest.txt .
	cd .lowest && bin/dcsim --help && bin/dcsim run 64chip --duration '20 s' --engine compiled && bin/dcsim collective h100x16

changes: setup  ## apply each of the ten changes of tests/changes to a copy and run its test
	$(PY) -m pytest -m "slow or not slow" tests/test_changes.py

bench: setup  ## measure speed (never a test)
	$(PY) -m benchmarks

docs: setup  ## write the generated pages of docs/, and the tables in DESIGN.md that take a minute
	$(PY) -m validation.docs_pages docs
	$(PY) -m validation.one_answer docs

validate: setup  ## test every claim and write docs/VALIDATION.md (minutes)
	$(PY) -m validation.page docs

grid: setup  ## compute the comparisons that the dashboard has ready (about ten minutes of two cores)
	$(PY) -m dashboard.grid

pictures: setup  ## take the dashboard's pictures for README and docs (minutes; STORE=runs takes what is kept there)
	cd tests && ../$(PY) dashboard_pictures.py $(if $(STORE),--store $(abspath $(STORE)))

dashboard: setup  ## serve the dashboard on this machine
	$(VENV)/bin/dcsim dashboard

clean:  ## remove the virtual environment, runs and caches, compiled kernels included
	python3 -B -c "from dcsim.kernels import kept; kept.clear()"
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) .lowest runs .pytest_cache .mypy_cache .ruff_cache
