# `make demo` and `make test` set up everything in .venv on first use. PYTHON and VENV may be overridden.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test slow same kills mutants fuzz gpu-check check lint types reference clean

demo: $(READY)
	$(BIN)/syn2co demo --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 5 --dist worksteal

slow: $(READY)
	$(BIN)/python -m pytest -m slow

same: $(READY)
	$(BIN)/python tools/same.py

kills: $(READY)
	$(BIN)/python tools/kills.py

mutants: $(READY)
	$(BIN)/python tools/mutants.py

fuzz: $(READY)
	$(BIN)/python tools/fuzz.py

gpu-check: $(READY)
	$(BIN)/python tools/gpu_check.py

check: lint types test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/sizes.py

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

reference: $(READY)
	$(BIN)/python tools/reference.py

$(READY): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'syn2co needs Python 3.11 or newer; set PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
