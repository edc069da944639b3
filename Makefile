# `make` lists the targets. PYTHON is any Python 3.11; on Debian 13 and Ubuntu 24.04 also 3.12 or 3.13. For what needs only
# .venv (compile, submit to a cluster, adopt), it may be newer.
PYTHON ?= python3
BIN := .venv/bin
STAGES_BIN := .venv-stages/bin
STAGES := $(notdir $(patsubst %/component.yaml,%,$(wildcard components/*/component.yaml)))

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup-tools: .venv/tools ## what submits to a cluster, in .venv: seconds, no TensorFlow

setup: stages-python .venv/dev .venv-stages/ready ## everything: .venv, and what the stages need in .venv-stages

run: stages-python .venv/tools .venv-stages/ready ## set up, draw the sample data, run the training pipeline on it, show the evaluation
	$(BIN)/python sample.py
	$(BIN)/python submit.py --local --config sample --data build/sample/data --test-data build/sample/test

notebook: stages-python .venv/notebook .venv-stages/ready ## set up and open JupyterLab with the notebooks
	$(STAGES_BIN)/python -m ipykernel install --prefix .venv --name stages --display-name "stages (TensorFlow)" >/dev/null
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/interactive.ipynb $(JUPYTER_FLAGS)

# The stages' tests begin with the longest, so that no core waits at the end. Both halves run, even if the first fails.
# The tools' tests often wait, for a server or for time to pass, so that the cores have work for one process more.
test: stages-python .venv/dev .venv-stages/ready ## set up and run the tests
	failed=0; \
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --numprocesses $$(($$(nproc) + 1)) $(TOOLS_TESTS) || failed=1; \
	$(STAGES_BIN)/python -m pytest $(PYTEST_FLAGS) $(STAGES_TESTS) || failed=1; \
	exit $$failed

test-fast: stages-python .venv/dev .venv-stages/ready ## the tests that start no TensorFlow, server or command: under a minute
	failed=0; \
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m fast $(TOOLS_TESTS) || failed=1; \
	$(STAGES_BIN)/python -m pytest $(PYTEST_FLAGS) -m fast $(FAST_STAGES_TESTS) || failed=1; \
	exit $$failed

# Longer searches, which no other target runs: ARGS= has their options, such as --minutes=1 or --trials=50.
fuzz: stages-python .venv/dev .venv-stages/ready ## look for inputs that end in a trace: ten minutes
	$(BIN)/python tests/endurance/fuzz.py $(ARGS)

test-kill: stages-python .venv/dev .venv-stages/ready ## kill stages and commands a thousand times, and look at what is left: hours
	$(BIN)/python tests/endurance/kill.py $(ARGS)

test-full-disk: stages-python .venv/dev .venv-stages/ready ## run stages and commands on full disks, as root: an hour
	$(BIN)/python tests/endurance/full_disk.py $(ARGS)

STAGES_TESTS := tests/components tests/models tests/containers tests/benchmarks
TOOLS_TESTS := tests/end_to_end/test_end_to_end.py $(addprefix --ignore ,$(STAGES_TESTS)) tests
FAST_STAGES_TESTS := tests/containers $(addprefix tests/components/,test_contracts.py shared \
	$(addprefix compare/test_,data_difference.py paired.py) \
	$(addprefix curate/test_,agreement.py augmentation.py balance.py cleaning.py planning.py voting.py))
PYTEST_FLAGS := --numprocesses logical --dist loadfile --no-loadscope-reorder

lint: stages-python .venv/dev .venv-stages/ready ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/deno lint --quiet
	$(BIN)/deno fmt --quiet --check
	$(BIN)/mypy adopt.py compile.py export.py sample.py submit.py pipelines components/shared
	$(BIN)/mypy --python-executable $(STAGES_BIN)/python --cache-dir .mypy_cache/stages components models

docs: .venv/tools ## write docs/components.md from the components, docs/api.md from pipelines/api
	$(BIN)/python -m pipelines.compiler.reference
	$(BIN)/python -m pipelines.api.reference

benchmark: stages-python .venv/tools .venv-stages/ready ## measure the stages, then four data sets in the loop; more than an hour
	$(BIN)/python benchmarks/run.py
	rm -rf build/other_images
	$(STAGES_BIN)/python benchmarks/other_images.py

benchmark-scale: stages-python .venv/dev .venv-stages/ready ## measure each stage on 10,000 to 1,000,000 drawn images: many hours; it goes on where it stopped
	$(BIN)/python benchmarks/scale.py $(ARGS)

# An image whose tag is a hash of what it is made of need not be built twice; FORCE=1 does, and so does a TAG=. The hash
# is made before the files are read, so it is made again afterwards.
images: image-names ## build the images of the stages that have changed: BUILDER=, REGISTRY=, TAG=, BASE=, GPU=1, STAGES=, FORCE=1
	@test -n "$(BUILDER)" || { echo "No docker, podman or buildah works here; install one, or start its daemon."; exit 1; }
	for image in $(filter base:% $(addsuffix :%,$(STAGES)),$(IMAGES)); do \
		name=$${image%%:*}; \
		$(if $(TAG)$(FORCE),,if $(BUILDER) inspect --type image $(PREFIX)$$image >/dev/null 2>&1; then \
			echo "$(PREFIX)$$image is there; FORCE=1 builds it again"; continue; fi;) \
		base=$(PREFIX)$(firstword $(IMAGES)); test $$name != base || base=$(BASE); \
		$(BUILD) -f containers/$$name/Dockerfile -t $(PREFIX)$$image $${base:+--build-arg BASE=$$base} \
			$(if $(GPU),--build-arg REQUIREMENTS=requirements-gpu.txt) --label org.opencontainers.image.title=$$name \
			--label org.opencontainers.image.revision=$(COMMIT) . || exit; \
		$(if $(TAG),,$(IMAGE_TAGS) | tr ' ' '\n' | grep -qx "$$image" || { $(BUILDER) rmi $(PREFIX)$$image >/dev/null; \
			echo "$$name: its files were changed while it was built; make images again."; exit 1; };) \
	done

push: image-names ## push them: REGISTRY=europe-west4-docker.pkg.dev/PROJECT/REPOSITORY
	@test -n "$(REGISTRY)" || { echo "Where to? Give REGISTRY=, and build with the same: make images push REGISTRY=..."; exit 1; }
	for image in $(filter $(addsuffix :%,$(STAGES)),$(IMAGES)); do \
		$(BUILDER) push $(PUSH_FLAGS) $(PREFIX)$$image || exit; \
	done

BUILDER ?= $(shell for builder in docker podman buildah; do $$builder info >/dev/null 2>&1 && echo $$builder && break; done)
BUILD = $(BUILD_$(BUILDER)) $(BUILD_FLAGS)
BUILD_docker := DOCKER_BUILDKIT=1 docker build
BUILD_podman := podman build --layers
BUILD_buildah := buildah build --layers
image-names:
	@for stage in $(STAGES); do test -e components/$$stage/component.yaml || { echo "STAGES: there is no stage $$stage."; exit 1; }; done
	@test -n "$(IMAGES)" # what is wrong has been said

# NAME:TAG of the base's image and of each stage's.
IMAGES = $(if $(TAG),$(patsubst %,%:$(TAG),base $(STAGES)),$(HASHED_IMAGES))
IMAGE_TAGS := $(PYTHON) -m pipelines.compiler.image_tags $(if $(GPU),--gpu)
HASHED_IMAGES := $(if $(filter images push,$(MAKECMDGOALS)),$(shell $(IMAGE_TAGS)))
COMMIT = $(shell $(PYTHON) -m pipelines.compiler.code_version)
PREFIX := $(if $(REGISTRY),$(REGISTRY:/=)/)

test-images: stages-python .venv/dev .venv-stages/ready ## build the images with buildah, run the pipeline and the tests in them (as root; an hour the first time)
	$(BIN)/python -m pytest -m images tests/end_to_end/test_images.py

# pip-audit asks an advisory database of PyPI, which a mirror may lack; --strict then says so and fails.
audit: .venv/dev ## look the locked packages up among the known vulnerabilities; see SECURITY.md
	$(BIN)/uv tool run --quiet --from 'pip-audit==2.10.1' pip-audit --strict --disable-pip --no-deps --progress-spinner off \
		$(addprefix --ignore-vuln ,$(DO_NOT_REACH_US)) $(foreach lock,$(wildcard locks/*.txt containers/*/*.txt),-r $(lock))

DO_NOT_REACH_US := CVE-2025-69872 CVE-2023-47248 CVE-2025-53644

lock: .venv/dev ## write the lock files from pyproject.toml
	$(UNIVERSAL_LOCK) --extra tools --output-file locks/tools.txt
	$(UNIVERSAL_LOCK) --extra notebook --constraint locks/tools.txt --output-file locks/notebook.txt
	$(UNIVERSAL_LOCK) --extra notebook --group dev --constraint locks/notebook.txt --output-file locks/dev.txt
	$(UNIVERSAL_LOCK) $(addprefix --extra ,$(STAGES)) --group stage-tests --output-file locks/stages.txt
	$(IMAGE_LOCK) --extra base --output-file containers/base/requirements.txt
	$(IMAGE_LOCK) --extra train-gpu --output-file containers/train/requirements-gpu.txt
	$(foreach stage,$(STAGES),$(IMAGE_LOCK) --extra $(stage) --output-file containers/$(stage)/requirements.txt &&) true

UNIVERSAL_LOCK = $(LOCK) --universal --python-version 3.11
IMAGE_LOCK = $(LOCK) --python-version 3.13 --python-platform x86_64-manylinux_2_39 --constraint locks/stages.txt
LOCK := $(BIN)/uv pip compile -q pyproject.toml --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock'

# uv installs a lock in a fraction of pip's time; pip takes over where uv finds no index. A lock holds everything, so
# --no-deps spares pip the search. .venv/tools adds to .venv and takes nothing away, so `make run` leaves what
# `make setup` installed for tests.
.venv/tools: locks/tools.txt
	@$(call fits,$(BIN)/python,TOOLS) || $(call fits,$(PYTHON),TOOLS) || { echo "$(call unfit,.venv needs 3.11 or newer)"; exit 1; }
	@$(call fits,$(BIN)/python,TOOLS) || $(PYTHON) -m venv --clear .venv
	@$(call say,.venv,$<,the commands$(COMMA) 0.8 GB)
	$(PIP) install uv
	$(UV) install --compile-bytecode --no-deps --python $(BIN)/python --require-hashes -r $< || \
		$(PIP) install --no-deps --require-hashes -r $<
	touch $@

.venv/notebook: locks/notebook.txt .venv/tools
	@$(call say,.venv,$<,the notebooks)
	$(UV) install --compile-bytecode --no-deps --python $(BIN)/python --require-hashes -r $< || \
		$(PIP) install --no-deps --require-hashes -r $<
	touch $@

.venv/dev: locks/dev.txt .venv/tools
	@$(call say,.venv,$<,the tests and checks)
	$(UV) sync --compile-bytecode --python $(BIN)/python --require-hashes $< || $(PIP) install --no-deps --require-hashes -r $<
	touch $@

# pyfarmhash (of TensorFlow Data Validation) is built from source, hence the compiler.
.venv-stages/ready: locks/stages.txt | .venv/tools
	@command -v g++ >/dev/null || { echo "g++ is missing; on Debian: apt-get install g++ python3-dev python3-venv"; exit 1; }
	@$(call fits,$(STAGES_BIN)/python,STAGES) || $(PYTHON) -m venv --clear --without-pip .venv-stages
	@$(call say,.venv-stages,$<,the stages with TensorFlow$(COMMA) 3.3 GB; some minutes)
	$(UV) sync --compile-bytecode --python $(STAGES_BIN)/python --require-hashes $< || \
		$(PIP) --python $(STAGES_BIN)/python install --no-deps --require-hashes -r $<
	touch $@

# What cannot be installed for a Python is refused before anything is, and an environment of such a Python is made anew.
stages-python:
	@test -e .venv-stages/ready || $(call fits,$(STAGES_BIN)/python,STAGES) || $(call fits,$(PYTHON),STAGES) || \
		{ echo "$(call unfit,the stages need 3.11$(COMMA) or with glibc 2.39 or newer 3.12 or 3.13)"; exit 1; }

# On stderr, as what says how far something is.
say = echo "$(1): installing $$(grep -c '^[a-z0-9].*==' $(2)) packages for $(3)" >&2
fits = $(1) -c '$(FITS_$(2))' 2>/dev/null
unfit = PYTHON is $(PYTHON), $(or $(shell $(PYTHON) -V 2>&1 | head -n 1),which cannot be run); $(1). \
	Install one, and name it: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11
FITS_TOOLS := import sys; sys.exit(sys.version_info < (3, 11))
FITS_STAGES := import platform, sys; python = sys.version_info[:2]; \
	glibc = tuple(int(number) for number in (platform.libc_ver()[1] or "0").split(".")); \
	sys.exit(python != (3, 11) and not ((3, 12) <= python <= (3, 13) and glibc >= (2, 39)))
COMMA := ,

# On a terminal uv and pip show how far they are; elsewhere, as in CI, the line that `say` prints is enough.
QUIET = $(if $(shell test -t 2 && echo terminal),,--quiet)
UV = $(BIN)/uv pip $(QUIET)
PIP = $(BIN)/python -m pip $(QUIET) --disable-pip-version-check

.PHONY: help stages-python setup-tools setup run notebook test test-fast test-kill test-full-disk fuzz lint docs benchmark benchmark-scale images image-names push test-images audit lock
