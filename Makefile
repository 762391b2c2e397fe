# `make run` and `make test` need nothing but make and Python 3.11 or newer; PYTHON=python3.12 names another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet
DEV := requirements-dev.lock
REDOCLY := npx --yes @redocly/cli@2.77.0
UNASKED := --skip-rule info-license --skip-rule operation-4xx-response

.DELETE_ON_ERROR:
.PHONY: install run test crash tell fuzz bench overload cover lint format types check openapi lock clean

install: $(VENV)/.project

run: install
	$(BIN)/gatehouse serve $(ARGS)

test: install
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

cover: install
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report

# Longer runs, by hand: make crash ARGS=500 kills the service that often on each database.
crash: install
	$(BIN)/python -m tests.crash $(ARGS)

# ARGS: how many invoices, and how many kills of a worker meanwhile.
tell: install
	$(BIN)/python -m tests.telling $(ARGS)

# Strangers' answers, then a stranger's tools, each until it has tried so often; ARGS: how often schemathesis asks.
fuzz: install
	$(BIN)/python -m tests.contract answers
	$(BIN)/python -m tests.contract letters
	$(BIN)/python -m tests.contract liars
	$(BIN)/python -m tests.contract strangers $(ARGS)
	@if $(REDOCLY) --version >/dev/null 2>&1; then $(REDOCLY) lint $(UNASKED) openapi/gatehouse.yaml; \
	else echo "redocly lint: left out, for npx is not here or cannot get it"; fi

bench: install
	$(BIN)/python -m bench.hanging $(ARGS)

# Needs wrk. ARGS: for how many seconds five times as many callers ask as keep the service busy.
overload: install
	$(BIN)/python -m bench.overload $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/deptry --no-ansi .
	$(BIN)/lint-imports --no-logo

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install
	$(BIN)/mypy

check: lint types test

define AS_YAML
import sys, yaml, json
yaml.safe_dump(json.load(sys.stdin), sys.stdout, sort_keys=False, allow_unicode=True, width=120)
endef
export AS_YAML

openapi: install
	$(BIN)/gatehouse openapi | $(BIN)/python -c "$$AS_YAML" > openapi/gatehouse.yaml

# Every lock, from pyproject.toml; what is shipped is pinned as it is tested. ARGS=--upgrade moves each pin to its newest.
lock: install
	$(COMPILE) $(ARGS) pyproject.toml --extra otel --group dev --output-file $(DEV)
	$(COMPILE) --constraint $(DEV) pyproject.toml --output-file requirements.lock
	$(COMPILE) --constraint $(DEV) pyproject.toml --extra otel --output-file requirements-otel.lock
	$(COMPILE) --constraint $(DEV) --group build --output-file requirements-build.lock

clean:
	rm -rf $(VENV) .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment made without pip is served by its maker's.
PIP = $(shell $(BIN)/python -m pip --version >/dev/null 2>&1 \
	&& echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python)

$(VENV)/.project: pyproject.toml $(VENV)/.locked
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.locked: $(DEV) $(BIN)/python
	@echo "Installing what $(DEV) names ..."
	@$(PIP) install -qq --no-compile --require-hashes --requirement $(DEV)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gatehouse needs Python 3.11 or newer (try: make PYTHON=python3.12), not " + sys.version)'
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear --without-pip $(VENV)
