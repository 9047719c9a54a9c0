.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench clean mini examples

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# One environment for everything; the stamp makes a second run install nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "luthier needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $(STAMP)

demo: $(STAMP) ## recordings → model → sound on the built-in model; ends with work/demo/report.html
	$(BIN)/luthier demo

test: $(STAMP) check ## all tests, with `make check` first
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Without ruff's cache: it does not see that a module which a file imports has come or gone.
check: $(STAMP) ## lint, format, types, import rules, docs in sync
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

fix: $(STAMP) ## format, fix what can be fixed, write the command reference and the schemas
	$(BIN)/ruff check --no-cache --fix .
	$(BIN)/ruff format --no-cache .
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_schemas.py

bench: $(STAMP) ## measure: speed, memory, tempo, key, distance → benchmarks/results
	$(BIN)/python benchmarks/generate_speed.py
	$(BIN)/python benchmarks/adherence.py
	$(BIN)/python benchmarks/adapter_gain.py
	$(BIN)/python benchmarks/plot.py

mini: $(STAMP) ## the built-in model from nothing (hours; needs fluidsynth and fluid-soundfont-gm)
	$(BIN)/python -m recipes.mini

examples: $(STAMP) ## compose and render the example tracks again (needs fluidsynth)
	$(BIN)/python -m recipes.mini.examples

clean: ## remove what was made here, but not the environment
	rm -rf work cache exps .pytest_cache .mypy_cache .ruff_cache .hypothesis
