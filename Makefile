# Each target is complete from a bare clone: it makes its own environment in .venv, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
# CONSTRAINTS=/dev/null takes the newest versions that pyproject.toml allows instead of the tested ones.
CONSTRAINTS ?= constraints.txt

.PHONY: quickstart test test-fast lint docs install clean

quickstart: install
	$(BIN)/jaxmoust study --config=experiments/quickstart.py --workdir=$(WORKDIR)

test: install
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

# The laws that take seconds; what trains, samples, draws pages or starts processes is left to `make test`.
test-fast: install
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The manual, in site/; a broken link or a missing name fails. To read it: python -m http.server -d site
docs: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed: make PYTHON=python3.11"'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[dev,diffusers,heic]"
	touch $@

clean:
	rm -rf $(VENV) runs build site *.egg-info
