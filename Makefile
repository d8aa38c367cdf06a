# make quickstart   a trained, chatting model on this machine, in minutes     make test   what CI runs
# make check        lint, types, layering                                     make help   everything else

PYTHON ?= python3
BIN := .venv/bin
STORE ?= store
TESTERS ?= 3
export PYTHON

.PHONY: help quickstart chat test test-all test-ranks check coverage bench-cpu bench-data bench-time bench-gpu lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

.venv/.ready: pyproject.toml requirements/cpu.lock requirements/cuda.lock scripts/install.sh
	@scripts/install.sh
	@touch $@

.venv/.ready-dev: pyproject.toml requirements/cpu.lock requirements/cuda.lock scripts/install.sh
	@scripts/install.sh dev
	@touch .venv/.ready $@

quickstart: .venv/.ready  ## raw text to a chatting model, on a bare CPU in minutes
	@$(BIN)/bloomery run recipes/quickstart.py --store $(STORE)

chat: .venv/.ready  ## talk to the quickstart's model
	@$(BIN)/bloomery chat Train/chat --store $(STORE)

check: .venv/.ready-dev  ## lint, formatting of imports, types, layering of the house
	@$(BIN)/ruff check src tests recipes bench
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pyrefly check

test: check  ## everything that CI runs: checks and tests, without a GPU and without the network
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TESTERS) --dist worksteal -m "not slow and not real"

test-all: check  ## the slow tests and those on real data too (BLOOMERY_DATA names its folder)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TESTERS) --dist worksteal

RANKS := mesh faults planning optim train store stages/test_train_ranks.py stages/test_micro_batch.py cli/launch cli/test_plan.py

test-ranks: .venv/.ready-dev  ## ranks, faults, checkpoints and plans, with every layout, kill and case: an hour or two
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "not real" $(addprefix tests/,$(RANKS))

.venv/transformers4: .venv/.ready-dev
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --upgrade --target $@ \
		'transformers>=4.57,<5' 'tokenizers>=0.22,<0.23' 'huggingface-hub<1'

TRANSFORMERS4 ?= .venv/transformers4
READ := $(addprefix models/test_,parity.py parity_encoder_decoder.py task_heads.py peft.py) stages/test_export.py stages/test_adapters_through.py cli/test_share.py

test-transformers4: .venv/transformers4  ## what is exported, read by transformers 4.57 as well: every family, logits and gradients
	@OMP_NUM_THREADS=1 PYTHONPATH=$(TRANSFORMERS4) $(BIN)/pytest -m "not slow and not real" $(addprefix tests/,$(READ))

coverage: .venv/.ready-dev  ## line coverage of the rooms that everything stands on
	@$(BIN)/pytest tests/core tests/store tests/recipe tests/cli --cov=bloomery.core --cov=bloomery.store --cov=bloomery.recipe --cov-report=term-missing

.venv/.ready-bench: .venv/.ready-dev
	@scripts/install.sh bench,dev
	@touch $@

bench-cpu: .venv/.ready-bench  ## training speed beside peers, alternating in one run
	@$(BIN)/python bench/train_cpu.py

bench-data: .venv/.ready-bench  ## the refinery beside peers, on real data (BLOOMERY_DATA names its folder)
	@for bench in extraction language dedup content_filters decontaminate learned_filters tokenization; do $(BIN)/python bench/$$bench.py || exit 1; done
	@$(BIN)/python -m bench.dirt
	@$(BIN)/python bench/refinery.py

bench-time: .venv/.ready-bench  ## time to quality beside a tuned Trainer: hours on an idle machine, on real data (BLOOMERY_DATA names its folder)
	@$(BIN)/python -m bench.time_to_bpb all --work $(STORE)/time_to_bpb

bench-gpu: .venv/.ready-bench  ## training speed and utilisation on a GPU beside a Trainer; says so where there is none
	@$(BIN)/python bench/train_gpu.py

lock: .venv/.ready-dev  ## resolve the locked versions anew
	@scripts/lock.sh

clean:  ## remove the environment and caches; the store stays
	rm -rf .venv .pytest_cache .ruff_cache src/*.egg-info
