# CloudArc. `make` alone prints the targets.
.DEFAULT_GOAL := help
.PHONY: help setup run worker test check audit e2e fix fuzz soak spec

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(SETUP) ## make the environment in .venv

$(SETUP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "CloudArc needs Python 3.11 or newer; set PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

run: $(SETUP) ## serve http://127.0.0.1:8080 with demo data
	@exec $(BIN)/python -m server serve

worker: $(SETUP) ## deliver webhooks beside a server that does not (CLOUDARC_WEBHOOK_WORKER=off)
	@exec $(BIN)/python -m server worker

test: $(SETUP) ## run the whole suite, on SQLite, PostgreSQL and Valkey
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/e2e

check: $(SETUP) ## judge format, lint, types, imports and contract; write nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_contract.py tests/test_requirements.py

audit: ## look for known weaknesses in what is installed; needs PyPI itself
	@$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.txt

e2e: $(SETUP) ## try what needs other programs: php, curl, node, go, Redis over TLS
	$(BIN)/python -m pytest -q tests/e2e

fix: $(SETUP) ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(SETUP) ## fuzz a fresh server, or the one at URL with TOKEN and KEY
	$(BIN)/python -m tests.fuzz

soak: $(SETUP) ## kill and hinder real processes for a quarter of an hour, and print what held
	$(BIN)/python -m tests.soak

spec: $(SETUP) ## bundle, validate and judge the contract; write it to build/
	@mkdir -p build
	@for form in json yaml; do \
	  $(BIN)/python -m server spec --format $$form > build/openapi.$$form && \
	  $(BIN)/python -m server spec --format $$form --audience client > build/openapi-client.$$form && \
	  $(BIN)/python -m server spec --format $$form --audience admin > build/openapi-admin.$$form || exit $$?; \
	done
	$(BIN)/openapi-spec-validator build/openapi.yaml build/openapi-client.yaml build/openapi-admin.yaml
	$(BIN)/python -m pytest -q tests/test_contract.py
