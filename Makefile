# Each target is complete from a bare clone: it makes its own environment in .venv, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
# CONSTRAINTS=/dev/null takes the newest versions that pyproject.toml allows instead of the tested ones.
CONSTRAINTS ?= constraints.txt

.PHONY: quickstart photographs test test-fast lint docs install clean

quickstart: install
	$(BIN)/jaxmoust study --config=experiments/quickstart.py --workdir=$(WORKDIR)

# Photographs that come in packages, in patches: the experiment of one's own photographs, its first two rungs.
PHOTOGRAPHS ?= runs/photographs
photographs: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[photographs]"
	$(BIN)/python experiments/assets/photographs.py $(PHOTOGRAPHS)
	$(BIN)/jaxmoust train --config=configs/classifier/cifar10_resnet18.py:small --workdir=$(PHOTOGRAPHS)/resnet \
	  --config.data.source=folder --config.data.path=$(PHOTOGRAPHS)/others --config.data.image_px=32 \
	  --config.model.stem=imagenet --config.model.width=32 --config.optim.learning_rate=0.1 \
	  --config.train.num_steps=400 --config.augment.brightness=0.3 --config.augment.contrast=0.5
	$(BIN)/python experiments/assets/photographs.py $(PHOTOGRAPHS) $(PHOTOGRAPHS)/resnet
	$(BIN)/jaxmoust study --config=experiments/photographs.py:packaged --workdir=$(PHOTOGRAPHS)/probe
	$(BIN)/jaxmoust study --config=experiments/photographs.py:external,packaged --workdir=$(PHOTOGRAPHS)/external

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
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[dev,diffusers,heic,hf,s3]"
	touch $@

clean:
	rm -rf $(VENV) runs build site *.egg-info
