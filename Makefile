.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# Where it is set, each process compiles all it imports: seconds of a processor, a hundred times a test run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo tools test test-full check lock chart docs

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## Install everything into .venv (and Maven and tesseract, where we may)

# The last makes the model.
$(VENV)/.installed: requirements.lock pyproject.toml scripts/setup.sh connectors/minilm.py
	PYTHON="$(PYTHON)" bash scripts/setup.sh
	@touch $@

demo: setup ## The whole path on this machine, then three searches (DEMO_ARGS="" keeps it running)
	$(BIN)/mailstream demo $(if $(filter undefined,$(origin DEMO_ARGS)),--once,$(DEMO_ARGS))

tools: setup ## Build kubeconform and docker-compose, which test-full calls, into the user's cache
	$(BIN)/python -m tests.tools

test: setup ## Unit, contract, and one short seed of each service and kill test (real servers)
	$(BIN)/python -m pytest tests -m "not full" -n 3 --no-loadscope-reorder --durations 15 \
		|| $(BIN)/python scripts/once_more.py

test-full: tools ## Every "must show" at full size, with the time of each part (PARTS="growth soak": these)
	$(BIN)/python -u scripts/test_full.py $(PARTS)

check: setup ## Lint, types, import contracts, and that no schema breaks its readers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/mailstream schemas check

lock: ## Pin every dependency with its hashes, without host names
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.lock

chart: setup ## Write what the Helm chart repeats of the settings
	$(BIN)/python scripts/chart.py

docs: setup ## Write what docs/ repeats of the schemas: TOPICS.md, asyncapi.yaml, schemas/
	$(BIN)/mailstream schemas export
	$(BIN)/python scripts/topics_page.py
