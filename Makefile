# `make demo` and `make test` need nothing but Python 3.11 or newer and a network that reaches a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test bench gpu clean

demo: $(VENV)/installed
	$(BIN)/cirbench run --method pli --dataset scenes

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/performance -m performance --benchmark-columns=median,rounds

gpu: $(VENV)/installed-dev
	$(BIN)/pytest tests/gpu -m gpu

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
