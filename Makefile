# Each target is one line that calls a real tool; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench chaos mutants acceptance
BIN := .venv/bin
CONTRACTS := protos/gen/wherry/contracts.binpb
# The node that deploy/setup.sh found: its own where the system's is missing or too old.
NPM := PATH="$(CURDIR)/.tools/node/bin:$$PATH" npm --silent --prefix gateway/web
SOURCES := services gateway client deploy endpoint-kit bench tests

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: ## Installs what is missing: Debian packages, uv, Python packages; builds the web page
	@deploy/setup.sh --tests

demo: ## Two sites and all services on this machine, and a directory copied between them (DEMO_EXIT=1: ends then)
	@deploy/setup.sh && $(BIN)/python -P -m wherry_deploy.demonstration

test: ## All tests, three files at a time (ARGS='-k name' and the like go to pytest in place of that)
	@deploy/setup.sh --tests && $(BIN)/pytest $(or $(ARGS),-n 3 --dist loadfile --no-loadscope-reorder)

check: ## Style, types, who may import whom, contracts and what they must not break
	@deploy/setup.sh --tests && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy $(SOURCES) && $(BIN)/lint-imports && $(NPM) run check && $(BIN)/buf lint $(CONTRACTS) --config protos/buf.yaml && $(BIN)/buf breaking $(CONTRACTS) --against protos/baseline.binpb --config protos/buf.yaml

bench: ## Measures against peers on the same work (ONLY=first for one group)
	@deploy/setup.sh --tests && PYTHONPATH=tests/support:tests/fakes $(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

chaos: ## 100,000 tasks while everything is killed in turn (SEED=7 replays; ONLY=postgresql, sqlite or copies; TASKS=2000)
	@deploy/setup.sh --tests && PYTHONPATH=tests/support:tests/fakes $(BIN)/python -m wherry_testing.chaos $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(TASKS),--tasks $(TASKS))

mutants: ## Sabotages the code, patch by patch; a test must notice each (ONLY=name for one)
	@deploy/setup.sh --tests && PYTHONPATH=tests/support $(BIN)/python -m wherry_testing.mutants $(if $(ONLY),--only '$(ONLY)')

acceptance: ## Every acceptance row with its tests and their last result
	@PYTHONPATH=tests/support $(BIN)/python -m wherry_testing.acceptance
