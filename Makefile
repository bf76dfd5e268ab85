# `make demo` and `make test` need nothing but Python 3.11 or newer and a network that reaches a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test quick lint site docs browser chromium picture bench coverage gpu clean

demo: $(VENV)/installed
	$(BIN)/cirbench run --method pli --dataset scenes

test: lint chromium
	$(BIN)/pytest -n auto --maxprocesses 2

# About a minute on two cores: every package, without what starts processes, trains, encodes or drives a browser.
quick: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --hypothesis-profile quick -m "not slow and not browser and not performance"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(VENV)/installed
	$(BIN)/cirbench leaderboard build --output build/site

docs: $(VENV)/installed-dev
	$(BIN)/python docs/site/gather.py build/docs-source
	$(BIN)/python -m sphinx -W --keep-going -q -c docs/site build/docs-source build/docs

browser: $(VENV)/installed-dev chromium
	$(BIN)/pytest tests/browser

# The browser tests drive the system's Chromium. Where it is missing and cannot be installed, they are skipped and say so.
chromium:
	@command -v chromium > /dev/null \
	    || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } \
	    || echo "Chromium is not installed and cannot be: the browser tests will be skipped."

picture: $(VENV)/installed-dev chromium site
	$(BIN)/python -m tests.browser.picture build/site/benchmarks/scenes.html docs/leaderboard.png

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/performance -m performance --benchmark-columns=median,rounds

coverage: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.metrics.coverage

gpu: $(VENV)/installed-dev
	$(BIN)/python -m tests.gpu.measure

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
