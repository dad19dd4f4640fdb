.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup demo test test-all check lint run bench format lock clean stack-up stack-down stack-status

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
APP := $(VENV)/bin/activity-ingest
INSTALLED := $(VENV)/.installed
WORKERS ?= 2

help: ## Show these words
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv and install the locked dependencies

$(INSTALLED): requirements-dev.lock pyproject.toml
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, as python3.11 or python3 on the PATH (or: make PYTHON=/path/to/python)" >&2; exit 2; }
	$(PY) -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV) || { \
	  echo "Could not make $(VENV): on Debian and Ubuntu, install python3-venv" >&2; exit 2; }
	echo "Installing the locked dependencies into $(VENV)"
	$(PY) -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(PY) -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup ## See events become tables, and the proof: about a minute, leaves nothing running
	$(APP) demo

TESTS := mkdir -p .stack/tmp && PYTEST_DEBUG_TEMPROOT=.stack/tmp $(PY) -m pytest -q -n $(WORKERS) --dist worksteal

test: setup ## Run the tests, but for the few that take a minute each
	$(TESTS) -m 'not slow'

test-all: setup ## Run all tests
	$(TESTS)

check: lint test ## Check format, lint, types, import rules and tests

lint: setup ## Check format, lint, types and import rules
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(PY) -m mypy --no-error-summary
	out=$$($(VENV)/bin/lint-imports --no-logo 2>&1) || { echo "$$out" >&2; exit 1; }

run: setup stack-up ## Start the stack and a worker in the foreground
	eval "$$($(APP) stack env)" && $(APP) migrate && $(APP) topics --create && exec $(APP) run

bench: setup ## Measure the worker against raw Kafka and raw Postgres
	$(PY) -m tests.bench

stack-up: setup ## Start the embedded Postgres and broker
	$(APP) stack up

stack-down: setup ## Stop them; the data stays in .stack
	$(APP) stack down

stack-status: setup ## Say what runs and where
	$(APP) stack status || true

format: setup ## Format the code and mend what ruff can mend
	$(VENV)/bin/ruff check --quiet --fix-only .
	$(VENV)/bin/ruff format --quiet .

COMPILE := PIP_FIND_LINKS= CUSTOM_COMPILE_COMMAND='make lock' .lock-venv/bin/pip-compile --quiet --generate-hashes \
  --allow-unsafe --strip-extras --annotation-style line --no-emit-index-url --no-emit-find-links \
  --no-emit-trusted-host --no-emit-options $(LOCK_FLAGS)

lock: ## Resolve the dependencies and write both locks (LOCK_FLAGS=--upgrade for newer versions)
	"$(PYTHON)" -m venv --clear .lock-venv
	.lock-venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check pip-tools
	$(COMPILE) --extra embedded --extra dev -o requirements-dev.lock pyproject.toml
	$(COMPILE) -c requirements-dev.lock -o requirements.lock pyproject.toml
	rm -rf .lock-venv

clean: ## Stop the stack and remove all that make has made
	if [ -d .stack ]; then $(APP) stack down; fi
	rm -rf .venv .lock-venv .stack .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
	find ingest consumers tests -name __pycache__ -type d -prune -exec rm -rf {} +
