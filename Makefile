# Two commands on a fresh machine: `make demo` and `make test`.  `make help` lists the rest.

SUITS = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUITS)' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin
DOCS_BIN = .venv-docs/bin
EXTRAS = .[studies,ray,postgres,artifacts,gbdt,images,dev]
BUDGET ?= 4m
TRIALS ?= 6
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install lint test test-slow test-all format demo studies gallery docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: .venv/.installed  ## create .venv with the pinned dependencies and tunekit

%/bin/python:
	@if command -v uv >/dev/null; then uv venv --allow-existing --python '>=3.11,<3.14' $*; \
	elif [ -n "$(PYTHON)" ] && $(PYTHON) -c '$(SUITS)'; then $(PYTHON) -m venv $*; \
	else echo "tunekit needs Python 3.11, 3.12 or 3.13 (TensorFlow has no build for others); found $$($(or $(PYTHON),python3) --version 2>&1)." >&2; \
	     echo "Install one of them, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi

.venv/.installed: pyproject.toml constraints.txt | $(BIN)/python
	if command -v uv >/dev/null; then uv pip install --python $(BIN)/python -c constraints.txt -e "$(EXTRAS)"; \
	else $(BIN)/python -m pip install -c constraints.txt -e "$(EXTRAS)"; fi
	touch $@

lint: install  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## check style and types, run the tests and the docstring examples
	$(PYTEST) -m "not slow"

test-slow: install  ## run the slow tests: whole searches, kills and resumes
	$(PYTEST) -m "slow"

test-all: test test-slow  ## run everything

format: install  ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install  ## search on Ames housing, export the blend, predict with it (BUDGET=4m)
	$(BIN)/tunekit search studies/ames.py --budget $(BUDGET)
	$(BIN)/tunekit export studies/ames.py -o demo/model --force
	$(BIN)/python studies/new_rows.py demo/new.csv
	$(BIN)/tunekit predict demo/model demo/new.csv -o demo/predictions.csv
	@echo
	@echo "Look next at:"
	@echo "  demo/predictions.csv                     the predicted prices of the houses in demo/new.csv"
	@echo "  demo/model/                              the blend: one graph and its manifest"
	@echo "  $(BIN)/tunekit show studies/ames.py    the trials, and who is in the blend"
	@echo "  $(BIN)/tunekit ui                      every trial and its curves in MLflow"
	@echo "  studies/ames.py                          the study: edit it, and search again"

studies: install  ## run every study with a few trials, and export its blend (TRIALS=6)
	$(BIN)/python benchmarks/gallery.py --trials $(TRIALS)

gallery: install  ## run every study with its own budget, and write the README's table
	$(BIN)/python benchmarks/gallery.py --readme README.md

# The site is made by reading the code, so that its environment of 40 small packages needs neither TensorFlow nor tunekit.
DOCS_NEEDS = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")

.venv-docs/.installed: pyproject.toml constraints.txt | $(DOCS_BIN)/python
	$(DOCS_BIN)/python -c '$(DOCS_NEEDS)' > .venv-docs/needs.txt
	if command -v uv >/dev/null; then uv pip install --python $(DOCS_BIN)/python -c constraints.txt -r .venv-docs/needs.txt; \
	else $(DOCS_BIN)/python -m pip install -c constraints.txt -r .venv-docs/needs.txt; fi
	touch $@

docs: .venv-docs/.installed  ## write the documentation as a site into site/, which needs no network to be read
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --strict
	@echo "Open site/index.html, or, to search in it: python3 -m http.server -d site"

clean:  ## remove what can be made again; .venv and mlruns stay
	rm -rf demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find tunekit studies tests -name __pycache__ -prune -exec rm -rf {} +
