# `make` lists the targets. PYTHON is any Python 3.11; on Debian 13 and Ubuntu 24.04 also 3.12 or 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGES := $(notdir $(patsubst %/component.yaml,%,$(wildcard components/*/component.yaml)))

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## install everything into .venv

run: $(VENV)/ready ## set up, draw the sample data, run the training pipeline on it, show the evaluation
	$(BIN)/python sample.py
	$(BIN)/python compile.py
	$(BIN)/python submit.py --local --config sample --data build/sample/data --test-data build/sample/test

test: $(VENV)/ready ## set up and run the tests
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder tests/end_to_end/test_end_to_end.py tests

lint: $(VENV)/ready ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/ready ## write docs/components.md anew from the components
	$(BIN)/python -m pipelines.compiler.reference

benchmark: $(VENV)/ready ## measure the stages; writes build/benchmark.json
	$(BIN)/python benchmarks/run.py

images: ## build the images of all stages: BUILDER=, REGISTRY=, TAG=, BASE=, GPU=1
	@test -n "$(BUILDER)" || { echo "No docker, podman or buildah works here; install one, or start its daemon."; exit 1; }
	for stage in $(STAGES); do \
		$(BUILD_$(BUILDER)) -f containers/$$stage/Dockerfile -t $(IMAGE)$$stage:$(TAG) --build-arg REVISION=$(TAG) \
			$(if $(BASE),--build-arg BASE=$(BASE)) $(if $(GPU),--build-arg REQUIREMENTS=requirements-gpu.txt) \
			$(BUILD_FLAGS) . || exit; \
	done

push: ## push them: REGISTRY=europe-west4-docker.pkg.dev/PROJECT/REPOSITORY
	@test -n "$(REGISTRY)" || { echo "Where to? Give REGISTRY=, and build with the same: make images push REGISTRY=..."; exit 1; }
	for stage in $(STAGES); do $(BUILDER) push $(PUSH_FLAGS) $(IMAGE)$$stage:$(TAG) || exit; done

BUILDER ?= $(shell for builder in docker podman buildah; do $$builder info >/dev/null 2>&1 && echo $$builder && break; done)
BUILD_docker := DOCKER_BUILDKIT=1 docker build
BUILD_podman := podman build --layers
BUILD_buildah := buildah build --layers
TAG ?= $(shell $(PYTHON) -m pipelines.compiler.code_version)
IMAGE := $(if $(REGISTRY),$(REGISTRY:/=)/)

test-images: $(VENV)/ready ## build the images with buildah, run the pipeline and the tests in them (as root; an hour the first time)
	$(BIN)/python -m pytest -m images tests/end_to_end/test_images.py

lock: $(VENV)/ready ## write the lock files anew from pyproject.toml
	$(LOCK) --universal --python-version 3.11 $(addprefix --extra ,submit $(STAGES)) --group dev --output-file requirements.lock
	$(IMAGE_LOCK) --extra tensorflow --output-file containers/requirements.txt
	$(IMAGE_LOCK) --extra train-gpu --output-file containers/train/requirements-gpu.txt
	$(foreach stage,$(STAGES),$(IMAGE_LOCK) --extra $(stage) --output-file containers/$(stage)/requirements.txt &&) true

IMAGE_LOCK = $(LOCK) --python-version 3.13 --python-platform x86_64-manylinux_2_39 --constraint requirements.lock
LOCK := $(BIN)/uv pip compile -q pyproject.toml --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock'

# uv installs the lock in a fraction of pip's time; pip takes over where uv finds no index. The lock holds everything, so
# --no-deps spares pip the search. pyfarmhash (of TFDV) is built from source, hence the compiler.
$(VENV)/ready: requirements.lock
	@command -v g++ >/dev/null || { echo "g++ is missing; on Debian: apt-get install g++ python3-dev python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock || \
		$(PIP) --no-deps --require-hashes -r requirements.lock
	touch $@

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help setup run test lint docs benchmark images push test-images lock
