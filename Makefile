# On a machine with git, make and Python 3.11 or newer, `make demo` and `make test` do everything themselves.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo test soak lint format bench train evaluate contract picture clean

demo: .venv/demo
	$(BIN)/beliefstream demo $(ARGS)

test: lint
	$(BIN)/python -m pytest $(ARGS)

soak: .venv/dev
	$(BIN)/python -m pytest -m soak -s $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev
	$(BIN)/beliefstream bench $(ARGS)

train: .venv/demo
	$(BIN)/beliefstream train $(ARGS)

evaluate: .venv/demo
	$(BIN)/beliefstream evaluate $(ARGS)

contract: .venv/demo
	$(BIN)/beliefstream contract schemas/generated

picture: .venv/demo
	$(BIN)/beliefstream demo --picture docs/demo.png $(ARGS)

# one stamp per set of extras, made again when pyproject.toml changes
.venv/demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

.venv/dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ .venv/demo

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
