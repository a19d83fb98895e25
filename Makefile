# For developers, in a checkout. What a user needs stands in README.md and needs no make.

VENV ?= .venv
PYTHON ?= $(VENV)/bin/python

.PHONY: all venv run test lint dist clean

all: lint test

venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[test]'
	touch $@

run: venv
	$(VENV)/bin/twistd -n chatproto --demo

test: venv
	$(PYTHON) -m twisted.trial tests

lint: venv
	$(PYTHON) -m ruff check chatproto twisted tests
	$(PYTHON) -m ruff format --check chatproto twisted tests
	$(PYTHON) -m mypy

dist: venv
	$(PYTHON) -m build

clean:
	rm -rf build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
