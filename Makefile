# For developers, in a checkout. What a user needs stands in README.md and needs no make.

VENV ?= .venv

.PHONY: all venv run test lint dist ci clean

all: lint test

venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[test]'
	touch $@

run: venv
	$(VENV)/bin/twistd --pidfile= -n chatproto --demo

test: venv
	tests/browser/install.sh
	$(VENV)/bin/python -m twisted.trial -j2 tests

lint: venv
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

dist: venv
	$(VENV)/bin/python -m build

ci:
	.ci/run

clean:
	rm -rf build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
