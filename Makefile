# On a machine with git, make and Python 3.11 or newer, `make demo` and `make test` do everything themselves.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PROCESSES ?= 5
# uv installs in half of pip's time; pip does where it cannot, as with an index that only pip's configuration names
INSTALL = $(BIN)/pip install --quiet uv && $(BIN)/uv pip install --python $(BIN)/python --editable '.[$(EXTRAS)]' || \
	$(BIN)/pip install --editable '.[$(EXTRAS)]'
# native code, once; otherwise the first worker does it
COMPILE := $(BIN)/python -m beliefstream.inference.native_code

.PHONY: demo test native search soak lint format bench chaos fuzz audit release figures train evaluate paper contract docs site picture clean

demo: .venv/demo
	$(BIN)/beliefstream demo $(ARGS)

# a file at a time in each process; five keep two cores busy, since files that start programs wait for them. Native code
# that has changed is compiled before, once and not by each of them; bytecode is kept for all programs that tests start
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/dev
	$(MAKE) --jobs=2 lint native
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m research.bench.short

native: .venv/dev
	$(COMPILE)

# the properties of the tests with inputs that no run drew before; one that fails is told with how to draw it again
search: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "hypothesis and not soak" --hypothesis-profile others $(ARGS)

# tests of minutes: overload, upgrades, every alert, and the image, which needs root, buildah and debootstrap and 20 GB
soak: native
	$(BIN)/python -m pytest -m soak -s $(ARGS)

lint: .venv/dev site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: native
	$(BIN)/python -m research.bench $(ARGS)

# measures the tables of README, docs/speed.md and docs/accuracy.md and writes them; before a release, on an idle machine
figures: native
	$(BIN)/python -m research.figures $(ARGS)

# about 20 minutes; tests/chaos/__main__.py says what it does, docs/chaos.md what came of it
chaos: native
	$(BIN)/python -m tests.chaos $(ARGS)

# a million inputs for the decoders, about a quarter of an hour; FUZZ_INPUTS=... is another number
fuzz: native
	$(BIN)/python -m pytest tests/fuzz -m long -s --hypothesis-profile others $(ARGS)

# known vulnerabilities of what is installed; fails where the package index does not tell them
audit: .venv/dev
	$(BIN)/pip freeze --exclude-editable > .venv/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .venv/installed.txt $(ARGS)

# sdist, wheel, changelog and bill of materials in dist/; the wheel is installed and tried in a new environment
release:
	deploy/release.sh

train: .venv/demo
	$(BIN)/beliefstream train $(ARGS)

evaluate: .venv/demo
	$(BIN)/python -m research.evaluate $(ARGS)

# the published tasks of the method, five minutes of a core; docs/paper.md has the tables
paper: .venv/demo
	$(BIN)/python -m research.paper $(ARGS)

# what is written from the code: the contract of the topics, and pages of docs/
contract: .venv/demo
	$(BIN)/beliefstream contract schemas/generated
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/rooms.py

# the site of docs/ into build/site, with what the notebook and the gallery print and draw, which takes a minute
docs: native
	$(BIN)/python docs/outputs.py
	$(MAKE) site

# the same with the outputs that are there; a broken link, or a page that is not in the navigation, fails it
site: .venv/dev
	$(BIN)/python docs/assemble.py
	$(BIN)/zensical build --config-file build/zensical.toml --clean --strict

picture: .venv/demo
	$(BIN)/beliefstream demo --picture docs/demo.png $(ARGS)

# one stamp per set of extras, made again when pyproject.toml changes
.venv/demo: EXTRAS = demo,live
.venv/demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL)
	$(COMPILE)
	touch $@

.venv/dev: EXTRAS = dev
.venv/dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL)
	touch $@ .venv/demo

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
