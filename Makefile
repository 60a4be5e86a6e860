# Two commands: `make leaderboard` sets everything up and ends with a leaderboard, `make test` with the tests passing.

VENV ?= .venv
PYTHON ?= python3
OUT ?= results

.PHONY: leaderboard test lint floors clean

leaderboard: $(VENV)/installed
	$(VENV)/bin/bench run --method linear_probe,lora,mimi --suite pocket --seeds 0 --out $(OUT)

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

clean:
	rm -rf $(VENV) $(VENV)-floors
