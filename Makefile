# Two commands: `make quickstart` ends with a leaderboard, `make test` runs every check. Both set up what they need in a
# virtual environment of their own (VENV) and touch no other; after the first call neither needs a network.

PYTHON ?= python3
VENV ?= .venv-make
WORKERS ?= 2
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint $(CONSTRAINTS)
export OMP_NUM_THREADS ?= 1
export WANDB_MODE ?= offline

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint pytest coverage docs rehearse clean

help:
	@echo "make quickstart   attack and defend small networks on handwritten digits; ends with a leaderboard"
	@echo "make test         every check: style, types, tests"
	@echo "make lint         style and types alone"
	@echo "make pytest       tests alone"
	@echo "make coverage     lines and branches of benchmark/ that tests/core reaches"
	@echo "make docs         the documentation as a site, in build/docs"
	@echo "make rehearse     build a release into dist/, check it, install it and run it; publishes nothing"
	@echo "make clean        remove the environment and what builds left behind; results/ and data/ stay"

quickstart: $(VENV)/.for-running
	@$(BIN)/benchmark run suite=quickstart
	@test -f results/leaderboard/index.html || { echo "The leaderboard was not built; see above why" >&2; exit 1; }
	@echo "The leaderboard: $(CURDIR)/results/leaderboard/index.html (open it in a browser)"

test: lint pytest

pytest: $(VENV)/.for-testing
	@echo "tests"
	@$(BIN)/python -m pytest -q -n $(WORKERS)

lint: $(VENV)/.for-testing
	@echo "style"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@echo "imports"
	@report=$$($(BIN)/lint-imports --no-cache --no-logo) || { echo "$$report"; exit 1; }
	@echo "types"
	@$(BIN)/mypy --no-error-summary .

coverage: $(VENV)/.for-testing
	@$(BIN)/python -m pytest -q -n $(WORKERS) --cov=benchmark --cov-report= tests/core
	@$(BIN)/python -m coverage report --omit='benchmark/testing/*'

docs: $(VENV)/.for-testing
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "The documentation: $(CURDIR)/build/docs/index.html (open it in a browser)"

rehearse: $(VENV)/.for-testing
	@$(BIN)/python docs/rehearse.py --constraints $(CONSTRAINTS) $${TAG:+--tag "$$TAG"}

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "$(PYTHON) is no Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo \
	  "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.for-running: $(VENV)/.created pyproject.toml $(CONSTRAINTS)
	@echo "installing into $(VENV), once: a few minutes, most of them for torch"
	@$(PIP) setuptools wheel
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.for-testing: $(VENV)/.for-running
	@echo "installing what the tests need"
	@$(PIP) --no-build-isolation --editable '.[test]'
	@touch $@
