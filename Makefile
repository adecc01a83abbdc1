# Every command that runs is printed, so that anybody can type it instead.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test gpu launches objects drives faults identity flips fuzz outside swaps windows check format

demo: $(VENV)/demo-installed
	$(BIN)/headstart demo

test: $(VENV)/dev-installed
	$(BIN)/python -m pytest

# What is promised of a GPU, tried on the one that is here: ten minutes, and a table for RESULTS.md.
gpu: $(VENV)/dev-installed
	$(BIN)/headstart doctor --gpu

# Launches on real clusters of three nodes on this machine: Slurm (installed with apt where that can be done) and Ray (285 MB).
launches: $(VENV)/dev-installed
	$(BIN)/python -m pip install --quiet -e '.[dev,ray]'
	$(BIN)/python -m pytest tests/pipeline/executors

# Three minutes, with moto's S3 server on this machine; the figures go into docs/reliability.md.
objects: $(VENV)/dev-installed
	$(BIN)/python -m pip install --quiet -e '.[dev,s3]' 'moto[server]>=5.0.21'
	$(BIN)/python -m tests.faults.objects --write

# Ten to twenty minutes; as root on Linux, with ntfs-3g, exfat-fuse, exfatprogs, xfsprogs and libfuse2 (apt-get install).
drives: $(VENV)/dev-installed
	$(BIN)/python -m pip install --quiet -e '.[dev,drives]'
	$(BIN)/python -m tests.faults.drives --write

# 25 minutes at most, meant for two idle cores; the figures go into docs/reliability.md.
faults: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults

# Photos that move and change under kills, and the rules by which an image stays the same image; the figures go there, too.
identity: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults.identity

# Half an hour on one core; the figures go into docs/reliability.md. python -m tests.faults.flips --only queue: one file alone.
flips: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults.flips --write

# Two minutes a reader, 66 readers.
fuzz: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults.fuzz --write

# Needs strace.
outside: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults.outside

swaps: $(VENV)/dev-installed
	$(BIN)/python -m tests.faults.link_swaps

# Three to four minutes: tests of engine, cache, extraction and trainings without what Windows lacks; see docs/platforms.md. Linux only.
windows: $(VENV)/dev-installed
	$(BIN)/python -m pytest -p tests.without_posix

check: $(VENV)/dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_names.py tests/test_doors.py tests/test_cli_docs.py tests/test_api_docs.py tests/test_without_torch.py
	$(BIN)/python tools/stage.py build/stage
	cd build/stage && for system in linux win32 darwin; do \
		MYPYPATH=. ../../$(BIN)/mypy --platform $$system --cache-dir ../mypy_cache/$$system --config-file ../../pyproject.toml -p headstart || exit 1; \
	done
	cd build/stage && PYTHONPATH=. ../../$(BIN)/lint-imports --cache-dir ../import_cache --config ../../pyproject.toml

format: $(VENV)/dev-installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/dev-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@
