# make demo, make test: each sets up what it needs in .venv from the locked requirements.
PYTHON ?= python3
JOBS ?= 3
FAULTS_SEEDS ?= 1..200
MACHINE_SEEDS ?= 1..40
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KAFKA_TESTS ?= tests

# Programs are started hundreds of times: what Python compiled is kept, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

# A broker that is configured; else Apache Kafka, which Maven fetches into build/kafka.
BROKER = $(if $(MIGRATION_LEDGER_KAFKA_BOOTSTRAP),,$(BIN)/python -m tests.infra.kafka)

.PHONY: demo test test-kafka faults bench check unit format lock clean

demo: $(STAMP)
	@$(BIN)/migration-ledger demo --data-dir .migration-ledger

test: check
	$(BIN)/pytest tests --ignore=tests/unit --ignore=tests/faults -n $(JOBS) --dist loadgroup
	$(BIN)/pytest tests/faults  # alone: these measure how long a recovery takes

# One after another: they share a broker, and topics have fixed names.
test-kafka: $(STAMP)
	$(BROKER) $(BIN)/pytest $(KAFKA_TESTS) --ignore=tests/unit -m broker

# Hours, for a night: schedules of faults, the state machine, then every planted bug. Alone on its
# machine.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --seeds $(FAULTS_SEEDS) --profile nightly
	$(BIN)/python -m tests.faults --machine --seeds $(MACHINE_SEEDS)
	$(BIN)/python -m tests.faults --plant all

# Measures for three quarters of an hour, alone on its machine, and writes docs/reference/benchmarks.md.
bench: $(STAMP)
	$(BIN)/python -m bench --write

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit -n $(JOBS)

unit: $(STAMP)
	$(BIN)/pytest tests/unit

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --all-extras -o requirements/all.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal -o requirements/runtime.txt pyproject.toml
	grep -om1 'hatchling==[0-9.]*' pyproject.toml | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal -o requirements/build.txt -

$(STAMP): requirements/all.txt pyproject.toml
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "migration-ledger needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV)
