# Everything a newcomer or a release needs; `make help` lists it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= --numprocesses 2 --dist loadfile
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: help install demo test resilience check audit format bench system-packages clean
.DEFAULT_GOAL := help

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## virtual environment with Phosphene in it

demo: install  ## search a stock catalogue in the browser
	@$(BIN)/phosphene demo

test: $(VENV)/.installed-dev system-packages  ## every test
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_ARGS)

resilience: $(VENV)/.installed-dev system-packages  ## kills and outages at full size: an hour of a free machine
	PHOSPHENE_RESILIENCE_SCALE=1 $(BIN)/pytest $(PYTEST_ARGS) tests/resilience

check: $(VENV)/.installed-dev  ## lint, format, types, import contracts, unused dependencies
	@bash tools/check.sh $(BIN)

audit: $(VENV)/.installed-dev  ## known vulnerabilities of the pinned dependencies; asks a public database
	@$(BIN)/pip-audit --progress-spinner off --no-deps --disable-pip --requirement constraints.txt

format: $(VENV)/.installed-dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

bench: $(VENV)/.installed-dev system-packages  ## print the figures of README and docs, some hours; the recipes of training/ print theirs
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename "$$script" .py)"; done

system-packages:
	@bash tools/system_packages.sh

$(BIN)/python:
	@bash tools/make_venv.sh "$(PYTHON)" "$(VENV)"

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,s3]'
	@touch $@ $(VENV)/.installed

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
