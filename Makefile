# Two commands: `make up` runs the demo, `make test` passes the tests. `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
OPA := .tools/opa-1.22.2/opa
SETUP := .venv/.set-up
KEYCLOAK := .tools/keycloak-26.7.3
MAVEN_CENTRAL ?= https://repo1.maven.org/maven2

.DEFAULT_GOAL := help
.PHONY: help up setup test lint policies unit coverage e2e keycloak test-integration soak bench bench-record bench-masks lock docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup ## Start everything with a demo issuer and a demo Claude
	@$(BIN)/countersign up --demo

setup: $(SETUP) $(OPA) ## Make the environment from the lock file and get the pinned OPA

$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "$(PYTHON) can't make environments; install its venv module"; exit 1; }
	@echo "Installing the locked packages (about a minute) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(OPA): $(SETUP)
	@$(BIN)/python -m gateway.sidecar $@ && touch -h $@

test: setup lint policies unit ## Lint, check and test everything that needs no other software

lint: setup ## Format, lint, types and the one-way rule of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

policies: setup ## Check and test the policies
	$(OPA) fmt --list --fail policies rego_tests
	$(OPA) check --strict --schema policies/schemas policies rego_tests
	$(OPA) inspect -a -f json policies | $(OPA) eval -I -d rego_tests/conventions.rego \
		'data.conventions.violation[_]' --fail-defined --format pretty
	$(OPA) test --ignore schemas policies rego_tests --coverage --threshold 100 > /dev/null \
		|| $(OPA) test --ignore schemas policies rego_tests --verbose

unit: setup ## Unit, property, contract and integration tests, and the evasions
	$(BIN)/pytest --ignore=tests/e2e --ignore=tests/idp

coverage: setup ## What the tests of the core cover by themselves
	$(BIN)/coverage run -m pytest tests/unit tests/property tests/contract
	$(BIN)/coverage report

e2e: setup ## Real clients through the whole product (needs npm and curl)
	tests/e2e/install
	$(BIN)/pytest tests/e2e

keycloak: $(KEYCLOAK)

test-integration: setup $(KEYCLOAK) ## Against a real identity provider (needs Java 17, curl and Maven Central)
	$(BIN)/pytest --timeout=180 tests/idp

$(KEYCLOAK): tests/idp/install
	@echo "Getting and building Keycloak (about a minute) …"
	@tests/idp/install $@ $(MAVEN_CENTRAL) && touch $@

soak: setup ## A thousand kills under load; about half an hour
	COUNTERSIGN_TEST_KILLS=1000 $(BIN)/pytest -s tests/integration/test_kills.py

bench: setup ## Measure against a bare pass-through; writes build/bench.json
	$(BIN)/python tests/bench/run.py
	$(BIN)/python tests/bench/waiting.py

bench-record: setup ## Measure the record: recorder, long sessions, commits, verifying, search
	$(BIN)/python tests/bench/conversation.py
	$(BIN)/python tests/bench/recorder.py
	$(BIN)/python tests/bench/commits.py
	$(BIN)/python tests/bench/verify.py
	$(BIN)/python tests/bench/search.py

bench-masks: setup ## Measure masks: cost, what is held back, hostile texts, false hits
	$(BIN)/python tests/bench/masking.py

lock: ## Renew the lock file from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--extra dev --extra e2e pyproject.toml --output-file requirements.lock

clean: ## Remove the environment, tools and demo data
	rm -rf .venv .tools build var

docs: setup ## Write the generated tables of the documentation
	PYTHONPATH=tests $(BIN)/python tests/support/docs.py
