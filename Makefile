SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup lock lint demo up call down images node kind test soak bench check

# The virtual environment: pinned by hash, then our own three distributions on top of it.
setup: $(VENV)/.ready

$(VENV)/.ready: requirements/bootstrap.txt requirements/dev.txt operator/pyproject.toml bot_image/pyproject.toml local/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "This Python has no venv: apt-get install python3-venv (or your system's package of it)."; exit 1; }
	@echo "Setting up $(VENV)"
	@$(call step,virtual environment,$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --require-hashes -r requirements/bootstrap.txt)
	@$(call step,pinned dependencies,VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt requirements/bootstrap.txt)
	@$(call step,our own packages,VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e operator -e bot_image -e local)
	@touch $@

# $(call step,what,command): run it, then say what it was and how long it took.
step = SECONDS=0; $(2) && printf '  %3d s    %s\n' $$SECONDS '$(1)'

# What only Linux has, said before anything is installed.
check:
	@[ "$$(uname -s)" = Linux ] || { echo "This runs on Linux only (kube-apiserver ships for nothing else): elsewhere use kind, https://kind.sigs.k8s.io."; exit 1; }

# From kubectl apply to a heard answer. REAL=1: with the real Daily and OpenAI, which costs money.
demo: check setup
	@$(BIN)/python -m pipecat_local demo $(if $(REAL),--real)

# The same, kept running to play with.
up call down: check setup
	@$(BIN)/python -m pipecat_local $@

# Both images, by docker, podman or buildah, saved in .cache/images; told what is in them.
images: setup
	@$(BIN)/python -m pipecat_local.images

# A Kubernetes node with real containers, until Ctrl-C: as root. IMAGES="bot.tar operator.tar" are loaded into it.
node: check setup
	@$(BIN)/python -m pipecat_local node $(addprefix --image ,$(IMAGES))

# For those with Docker: a cluster of kind's with the chart and both images in it; bots talk to the real services.
kind: setup
	@$(BIN)/python -m pipecat_local.kind

# All tests, on real control planes; conversations are held in real time, so they have the machine to themselves.
# Those of the real node share one.
test: check setup
	@$(BIN)/python -m pipecat_local.assets
	@[ -n "$$PIPECAT_E2E_KUBECONFIG" ] || $(BIN)/python -m pipecat_local.images --for-tests
	$(BIN)/pytest -n auto --ignore tests/e2e --ignore tests/integration/realnode
	$(BIN)/pytest tests/integration/realnode
	$(BIN)/pytest tests/e2e

# A steady stream of sessions under seeded faults, for so many minutes; SEED for other faults.
soak: MINUTES ?= 30
soak: SEED ?= 1
soak: check setup
	@$(BIN)/python -m pipecat_local.assets
	PIPECAT_SOAK_MINUTES=$(MINUTES) PIPECAT_SOAK_SEED=$(SEED) $(BIN)/pytest -s tests/integration/faults/test_soak.py

# What a session costs, beside floors measured in the same run (docs/scale.md). SCENARIOS="life limits" and SIZE=0.05
# make it short.
SIZE := 1
bench: check setup
	@$(BIN)/python -m pipecat_local.assets
	PYTHONPATH=tests $(BIN)/python -m bench $(SCENARIOS) --size $(SIZE)

lock: $(VENV)/.ready
	for f in bootstrap dev; do \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate requirements/$$f.in -o requirements/$$f.txt; \
	done
	for f in operator standins; do \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -c requirements/dev.txt \
	    requirements/$$f.in -o requirements/$$f.txt; \
	done
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -c requirements/dev.txt \
	  --no-emit-package numba --no-emit-package llvmlite --no-emit-package resampy requirements/bot.in -o requirements/bot.txt

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
