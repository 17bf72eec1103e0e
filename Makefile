# CloudArc. `make` alone prints the targets.
.DEFAULT_GOAL := help
.PHONY: help setup run worker test test-fast check audit e2e fix fuzz mutants clients judges postman publish soak stall bench spec

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

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
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --ignore=tests/e2e

test-fast: $(SETUP) ## run a selection in a minute: one database, no processes, no long files
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --fast --ignore=tests/e2e

check: $(SETUP) ## judge format, lint, types, imports and contract; write nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/contract/test_contract.py tests/contract/test_growth.py tests/quality/test_requirements.py tests/quality/test_language.py -k "not TestDeprecated"

audit: ## look for known weaknesses in what is installed; needs PyPI itself
	@$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.txt

e2e: $(SETUP) ## try what needs other programs: php, curl, node, go, java, Redis over TLS
	$(BIN)/python -m pytest -q tests/e2e

fix: $(SETUP) ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(SETUP) ## fuzz a fresh server, or the one at URL with TOKEN and KEY
	$(BIN)/python -m tests.fuzz

mutants: $(SETUP) ## plant faults one at a time, and see whether fuzz or tests notice; EACH=3, SEED=2, ONLY=class
	$(BIN)/python -m tests.mutants

clients: $(SETUP) ## generate clients in eleven ways, compile them, and let each tell a story; ONLY=go picks one
	$(BIN)/python -m tests.clients $(ONLY)

judges: $(SETUP) ## let other people's linters, validators and clients judge the contract and the server
	$(BIN)/python -m tests.judges

postman: $(SETUP) ## write collections for Postman to build/postman
	$(BIN)/python -m tests.judges.postman

publish: $(SETUP) ## make the contract of today the published one, as a part of a release
	$(BIN)/python -m tests.contract.growth publish

soak: $(SETUP) ## kill and hinder real processes for twenty minutes, and print what held
	$(BIN)/python -m tests.soak

stall: $(SETUP) ## measure how long each operation and attack delays others; SHORT=1, ONLY=growth
	$(BIN)/python -m tests.stall

bench: build/bench/.complete build/fastify/.complete ## measure against the peers, and write benchmarks/RESULTS.md
	build/bench/bin/python -m benchmarks $(PARTS)

build/bench/.complete: requirements-bench.txt pyproject.toml
	$(PYTHON) -m venv build/bench
	build/bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	build/bench/bin/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# A peer in another language: without Node.js it is left out, and so is its SQLite without a compiler.
build/fastify/.complete: $(wildcard benchmarks/fastify/*)
	@mkdir -p build/fastify
	cp benchmarks/fastify/* build/fastify/
	-cd build/fastify && npm ci --silent --ignore-scripts --omit-lockfile-registry-resolved
	-cd build/fastify/node_modules/better-sqlite3 && \
	  npm_config_nodedir="$$(dirname "$$(dirname "$$(command -v node)")")" npm run --silent build-release >/dev/null 2>&1
	@touch $@

spec: $(SETUP) ## bundle, validate and judge the contract; write it to build/
	@mkdir -p build
	@for version in 3.0 3.1; do for form in json yaml; do \
	  place=build/openapi$$(test $$version = 3.0 || echo -$$version); \
	  spec="$(BIN)/python -m server spec --version $$version --format $$form"; \
	  $$spec > $$place.$$form && $$spec --audience client > $$place-client.$$form && \
	  $$spec --audience admin > $$place-admin.$$form || exit $$?; \
	done; done
	@cp openapi/arazzo.yaml build/
	$(BIN)/openapi-spec-validator build/openapi.yaml build/openapi-client.yaml build/openapi-admin.yaml \
	  build/openapi-3.1.yaml build/openapi-3.1-client.yaml build/openapi-3.1-admin.yaml
	$(BIN)/python -m pytest -q tests/contract/test_contract.py
