# `make demo` and `make test` need Python >= 3.11 and make; everything else goes into .venv.
# The first run installs (network), every later one works offline.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Build tools come from constraints.txt too, hence no isolated build with its own newest ones.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETTINGS := pyproject.toml constraints.txt setup.py $(wildcard native/*)

# Two test processes with one thread each: more threads than cores make small networks slower.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint wheel picture gallery clean

demo: $(VENV)/demo.stamp
	$(BIN)/isograd demo

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The wheel is proved where nothing else is installed, away from the sources.
wheel: $(VENV)/demo.stamp
	rm -rf build dist $(VENV)-wheel
	$(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check \
	    -c constraints.txt "$$(echo dist/isograd-*.whl)[demo]"
	cd $(VENV)-wheel && bin/isograd demo
	cd $(VENV)-wheel && bin/isograd watch --run script.isograd -- \
	    bin/python ../examples/watching/script.py && bin/isograd report script.isograd

picture: $(VENV)/demo.stamp
	$(BIN)/python docs/images/draw.py

gallery: $(VENV)/dev.stamp
	$(BIN)/python docs/make_gallery.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	    "isograd needs Python 3.11 or newer, this is %d.%d; run: make PYTHON=python3.12" \
	    % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(SETTINGS) | $(BIN)/python
	$(INSTALL) setuptools
	$(INSTALL) --no-build-isolation -e '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(SETTINGS) | $(BIN)/python
	$(INSTALL) setuptools
	$(INSTALL) --no-build-isolation -e '.[dev]'
	touch $(VENV)/demo.stamp $@

clean:
	rm -rf $(VENV) $(VENV)-wheel build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
