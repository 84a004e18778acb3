# Thin calls of the commands a user would type. Each target sets up what it needs; a second call is instant.
#
#   make demo                      ingest a gallery, serve it, search it with street photos, keep serving
#   make demo DATA=photos CHECK=1  a folder of your own; stop after the searches, exit 0 only if all went well
#   make bench-gpu                 check and measure everything on a GPU, in 8 minutes; GPU_FLAGS=--interpret without one
#   make test                      what CI runs; JOBS=1 runs one test at a time, in one process; the types are checked beside
#   make test-cluster              what needs a Milvus and a Redis: galleries past one machine (docs/cluster.md)
#   make failures                  three hosts, a gallery on them, and what happens when they die; FLAGS=--short
#   make test-ray                  what needs a Ray cluster: ingestion and replicas on nodes that die (docs/cluster.md)
#   make docs                      the documents as a site, in build/site
#   make PYTHON=python3.12 ...     another interpreter (3.11 or newer) for the virtual environment

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Empty means the command's own default.
DATA ?=
PORT ?=
CHECK ?=
BENCH_FLAGS ?=
GPU_FLAGS ?=
FLAGS ?=
PYTEST_FLAGS ?=
# Test processes; a file's tests stay together, since they share what they set up.
JOBS ?= 2

# Torch's waiting threads soon sleep (service/process/threads.py says why), and processes share their compiled bytecode.
export GOMP_SPINCOUNT ?= 3000
unexport PYTHONDONTWRITEBYTECODE

# A name that also is a folder (model, deploy, ...) is never a target; these are.
.PHONY: help venv demo test suite test-cluster test-ray failures lint style types format bench bench-gpu docs lock clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

venv: $(READY)

# The lock names every package and version; --no-deps keeps the project itself from asking for others. The stamp comes
# last, so that an installation that was cut off is taken up again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "threadmatch needs Python 3.11 or newer; '$(PYTHON)' is" $$($(PYTHON) -V 2>&1)". Say make PYTHON=... " >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo 'Installing the locked dependencies into $(VENV): torch is large, this takes some minutes.'
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/threadmatch demo $(if $(DATA),--data '$(DATA)') $(if $(PORT),--port $(PORT)) $(if $(filter-out 0,$(CHECK)),--check)

# The style is known in a second and comes first. mypy is one process for most of a minute, so it runs beside the tests.
test: $(READY) style
	@$(MAKE) --no-print-directory --jobs 2 suite types

suite: $(READY)
	$(BIN)/python -m pytest --durations=15 $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder) $(PYTEST_FLAGS)

# A Milvus of this machine comes as a package; redis-server is Debian's. Without them every test says what is missing.
test-cluster: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[cluster,cluster-server]'
	$(BIN)/python -m pytest -m cluster --durations=10 $(PYTEST_FLAGS)

failures: $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[cluster,cluster-server]'
	@$(BIN)/python -m threadmatch.service.bench.cluster_failures $(FLAGS)

# Ray's own environment: it comes with some forty packages, and the locked ones stay as they are.
test-ray: $(READY)
	$(BIN)/python -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -c 'import site, sys; open(site.getsitepackages()[0] + "/locked.pth", "w").write(sys.argv[1])' \
		"$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')"
	$(VENV)-ray/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[cpu,ray]'
	$(VENV)-ray/bin/python -m pytest -m ray --durations=10 $(PYTEST_FLAGS)

lint: style types

style: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	@$(BIN)/threadmatch bench $(BENCH_FLAGS)

# On a GPU with the environment that is there (torch for CUDA, faiss-gpu); VENV= names another. Its file is gpu.json.
bench-gpu: $(READY)
	@$(BIN)/python -m threadmatch.service.bench.gpu $(GPU_FLAGS)

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo 'The documents: build/site/index.html; for its search: $(BIN)/python -m http.server --directory build/site'

# uv resolves; pip installs. The files name no index, so they serve wherever pip is pointed. faiss-cpu and faiss-gpu are
# two builds of one module and never meet in one environment: the second file is for the CUDA image, same versions else.
UV = build/lock/bin/uv pip compile pyproject.toml --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check --quiet uv
	$(UV) --extra cpu --extra otel --extra open_clip --extra hf --extra train --extra docs --extra dev --output-file requirements.lock
	$(UV) --extra gpu --extra otel --constraint requirements.lock --no-annotate --output-file requirements-gpu.lock

clean:
	rm -rf $(VENV) $(VENV)-ray build dist demo-data bench-data gpu.json *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
