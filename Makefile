# Two commands from a bare machine: `make demo` to see it run, `make test` to see that it works.
# Needed beforehand: git, make, Python 3.11 to 3.14 with venv, and a package registry.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check bench faults lock clean

BIN := .venv/bin
ARGS ?=

# The newest Python that is supported and can make a virtual environment; else any, which then says what is missing.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 && echo $$p && exit; \
	done; for p in python3.14 python3.13 python3.12 python3.11 python3; do $$p -c '' >/dev/null 2>&1 && echo $$p && exit; done)

# -I: the script's own folder is no place to import from.
BOOTSTRAP = @if [ -z "$(PYTHON)" ]; then echo "moa: no Python: install Python 3.11 to 3.14 with venv" >&2; exit 1; fi; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
	{ echo "moa: $(PYTHON) is too old: install Python 3.11 to 3.14 with venv, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	"$(PYTHON)" -I backend/cli/bootstrap.py

help:  ## what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /	/' | while IFS='	' read -r name words; do printf '  make %-8s %s\n' "$$name" "$$words"; done

demo:  ## everything, until Ctrl-C: engines, sandbox, API, workers, coordinator (ARGS="--port 8001 …")
	$(BOOTSTRAP) requirements.lock $(if $(ARGS),,--ports 8000 8900)
	@exec $(BIN)/moa up --parent $$PPID $(ARGS)

test:  ## the test suite against real engines; needs nothing running
	$(BOOTSTRAP) requirements-dev.lock
	@exec $(BIN)/python -m pytest -m "not long" -n auto --maxprocesses 4 --dist worksteal $(ARGS)

check:  ## format, lint, types, import contracts, audit of the dependencies
	$(BOOTSTRAP) requirements-dev.lock
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@said=$$($(BIN)/pip-audit -r requirements.lock --disable-pip --require-hashes --progress-spinner off --timeout 15 2>&1) || \
	case "$$said" in \
	*"Found "*"known vulnerabilit"*) echo "$$said"; exit 1;; \
	*) echo "warning: the dependencies were not audited, the advisory service does not answer"; exit 0;; \
	esac; \
	unknown=$$(echo "$$said" | grep -c 'could not be audited' || true); \
	if [ "$$unknown" -eq 0 ]; then echo "audit: no known vulnerabilities"; \
	else echo "warning: $$unknown dependencies were not audited, the advisory service does not know them"; fi

bench:  ## the long form of the benchmarks, results in benchmarks/results/
	$(BOOTSTRAP) requirements-dev.lock
	@exec $(BIN)/python -m benchmarks $(ARGS)

faults:  ## the long tests: seeded random faults
	$(BOOTSTRAP) requirements-dev.lock
	@exec $(BIN)/python -m pytest -m long $(ARGS)

lock:  ## pins the dependencies again, with hashes and without any index's address
	$(BOOTSTRAP) requirements-dev.lock
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --group build --group dev -o requirements-dev.lock
	@! grep -n '://' requirements.lock requirements-dev.lock

LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

clean:  ## removes what make made; the data folder stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
