# `make demo` and `make test` work on a fresh clone; both build the one virtual environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LABEL := .venv-label
LABEL_STAMP := $(LABEL)/.installed
LABEL_PYTHON ?= python3.11
DEPLOY := .venv-deploy
DEPLOY_STAMP := $(DEPLOY)/.installed
TORCH := torch==2.13.0
DEMO := demo_output
BUNDLE := bundles/recnn3d

# As variables, so that the build backend that pip fetches for the package itself is pinned too.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv demo test test-fast test-label label-env test-deploy deploy-env lint format dicom-tools benchmark clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(STAMP)  ## create or update the virtual environment

# torch first and alone: what is installed after it finds its requirement met and brings no other build. Where pip's
# default index offers a CUDA build of several GB, point PIP_EXTRA_INDEX_URL at PyTorch's index of CPU builds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $@

demo: venv  ## super-resolve a real brain volume; results in demo_output/
	$(BIN)/python -m medsr.demo prepare --output $(DEMO)
	$(BIN)/python -m monai.bundle run --config_file $(BUNDLE)/configs/inference.json \
	  --bundle_root $(BUNDLE) --dataset_dir $(DEMO)/lr --output_dir $(DEMO)/sr --scale "[2,2,2]"
	$(BIN)/python -m medsr.demo report --output $(DEMO)

test: lint  ## all checks, then all tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations=10

test-fast: venv  ## the tests without the slow ones
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

# Not part of `test`: its environment alone takes minutes to install, and 2.3 GB.
test-label: venv label-env  ## every bundle under a real MONAI Label server
	MEDSR_LABEL_PYTHON=$(abspath $(LABEL)/bin/python) $(BIN)/python -m pytest tests/label --durations=10

label-env: $(LABEL_STAMP)  ## the environment of that server, in .venv-label

$(LABEL_STAMP): $(wildcard deploy/monai_label/*)
	deploy/monai_label/install.sh $(LABEL) $(LABEL_PYTHON)
	touch $@

# As `test-label`: 1.6 GB, most of it torch and NVIDIA's holoscan.
test-deploy: venv deploy-env  ## the MONAI Deploy operators in real applications of its SDK
	MEDSR_DEPLOY_PYTHON=$(abspath $(DEPLOY)/bin/python) $(BIN)/python -m pytest tests/deploy --durations=10

deploy-env: $(DEPLOY_STAMP)  ## the environment of that SDK, in .venv-deploy

$(DEPLOY_STAMP): $(wildcard deploy/monai_deploy/*)
	deploy/monai_deploy/install.sh $(DEPLOY) $(LABEL_PYTHON)
	touch $@

lint: venv  ## style, types, the direction of imports, the container recipe; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint --config deploy/container/hadolint.yaml deploy/container/Dockerfile

format: venv  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dicom-tools:  ## Debian packages that check DICOM output and the node, as root; without them a few tests are skipped
	apt-get install -y dicom3tools dcmtk orthanc orthanc-dicomweb

benchmark: venv  ## speed and memory of inference on this machine
	$(BIN)/python -m benchmarks.inference

clean:  ## remove caches and demo results; keeps the virtual environment
	rm -rf $(DEMO) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find medsr tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
