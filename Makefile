# Two commands: `make leaderboard` sets everything up and ends with a leaderboard, `make test` with the tests passing.

VENV ?= .venv
PYTHON ?= python3
OUT ?= results

.PHONY: leaderboard test lint floors pocket-rates pocket-convergence pocket-grid clean

leaderboard: $(VENV)/installed
	$(VENV)/bin/bench run --method linear_probe,lora,mimi --suite pocket2 --seeds 0 --jobs 2 --out $(OUT)

test: $(VENV)/installed-dev lint
	$(VENV)/bin/python -m pytest --numprocesses auto

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

floors:  # the lowest versions that pyproject.toml allows; brings a second PyTorch
	.ci/floors $(VENV)-floors

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/installed

# The evidence of the suite pocket2, hours each; every one goes on where it stopped. JOBS=2 trains in two processes.
JOBS ?= 2

pocket-rates: $(VENV)/installed  # a learning rate for every method and backbone, into datasets/rates.toml
	$(VENV)/bin/python benchmarks/pocket.py tune --jobs $(JOBS)

pocket-convergence: $(VENV)/installed  # six methods at the protocol's epochs and twice as many, three seeds
	$(VENV)/bin/python benchmarks/pocket.py converge --jobs $(JOBS)

pocket-grid: $(VENV)/installed  # all methods, tasks, backbones and seeds, into results/pocket
	$(VENV)/bin/python benchmarks/pocket.py grid --jobs $(JOBS)

clean:
	rm -rf $(VENV) $(VENV)-floors
