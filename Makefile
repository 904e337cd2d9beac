# What a person or CI does here, in one command each. `make help` lists them.

MONTH ?= 2026-10
MINUTES ?= 10
RECORDS ?= 5000000
RUNS ?= 3
FORMAT ?= delimited
PORT ?= 8600
PROCESSES ?= 2
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run backfill portal test check docs bench bench-readers fuzz airflow stop clean
MAKEFLAGS += --no-print-directory

CODE := dags jobs factors schemas data_quality tests docs .setup

# Settings of the environment that every command shares; the set-up's own paths are in it.
WITH_ENVIRONMENT := . .setup/environment &&

# Modules stay whole, since some tell a story in order; end to end, which takes longest, comes first.
SIDE_BY_SIDE := --numprocesses "$(PROCESSES)" --dist loadfile --no-loadscope-reorder

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Prepare everything into .venv/ and var/ (the other commands do that first, too; a second time does nothing).
	@.setup/setup

run: setup ## Run a month through Airflow, MONTH=2026-10 by default; without FOOTPRINT_LANDING, on a month made up.
	@$(WITH_ENVIRONMENT) exec python .setup/run.py "$(MONTH)"

backfill: setup ## Run the months FROM=YYYY-MM to TO=YYYY-MM in order; stops at the first that fails, and goes on there when run again.
	@$(WITH_ENVIRONMENT) exec python .setup/run.py "$(FROM)" "$(TO)"

portal: setup ## Serve the customer's page, read-only, on this machine, PORT=8600; `footprint portal-token` lets you in. Ctrl-C ends it.
	@$(WITH_ENVIRONMENT) exec footprint portal --port "$(PORT)"

test: ## Run all tests, PROCESSES=2 modules at a time (0: in one process), what measures time last; set-up looks for a browser, too.
	@.setup/setup --tests
	@$(WITH_ENVIRONMENT) python -m pytest $(SIDE_BY_SIDE) -m "not timed" && exec python -m pytest -m timed tests/bench

check: setup ## Lint, type-check, and see whether what is generated is fresh.
	@echo "ruff check"; .venv/bin/ruff check --quiet --output-format concise $(CODE)
	@echo "ruff format"; .venv/bin/ruff format --quiet --check $(CODE) || { echo "Run .venv/bin/ruff format $(CODE)"; exit 1; }
	@echo "mypy"; .venv/bin/mypy --no-error-summary
	@echo "mypy .setup"; .venv/bin/mypy --no-error-summary --strict .setup/*.py
	@echo "locks"; .venv/bin/python .setup/lock.py check
	@echo "factors"; .venv/bin/python -m factors check
	@echo "claims"; .venv/bin/python -m jobs.portal.claims
	@echo "data dictionary"; .venv/bin/python -m schemas dictionary --check
	@echo "contracts"; .venv/bin/python -m schemas contracts --check

docs: setup ## Build the documentation into var/docs/, offline; a warning is an error.
	@$(WITH_ENVIRONMENT) exec python -m sphinx -W --keep-going -q -b html docs var/docs
	@echo "var/docs/index.html"

bench: setup ## Measure a month beside DuckDB and Polars scripts, RECORDS=5000000[,…] RUNS=3 FORMAT=delimited ENGINES=footprint,duckdb,polars.
	@$(WITH_ENVIRONMENT) exec python -m tests.bench.month --records "$(RECORDS)" --runs "$(RUNS)" --format "$(FORMAT)" --engines "$(ENGINES)"

bench-readers: setup ## Measure the readers beside other decoders on one core: CDRs, RADIUS, IPDR.
	@$(WITH_ENVIRONMENT) exec python -m tests.bench.readers

fuzz: setup ## Search for octets that break a reader, MINUTES=10 for each format.
	@$(WITH_ENVIRONMENT) exec python -m tests.fuzz --minutes "$(MINUTES)"

airflow: setup ## Start Airflow's scheduler and web interface on the same DAGs; nothing fires by itself. Ctrl-C ends it.
	@$(WITH_ENVIRONMENT) exec python .setup/standalone.py

stop: ## Stop the embedded PostgreSQL, which outlives the runs.
	@if [ -x .venv/bin/footprint ]; then .venv/bin/footprint serving stop; fi

clean: ## Remove caches of the tools. Data (var/) and packages (.venv/) stay.
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse metastore_db derby.log
	@find dags jobs factors schemas data_quality tests .setup -name __pycache__ -type d -prune -exec rm -rf {} +
