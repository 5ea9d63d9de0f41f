# Two commands set Crosshead up: `make demo` shows it working, `make test` proves it. Each creates .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA := ../shared/data
WORKERS ?= 2

.PHONY: demo browser-demo test test-floor check docs dist kernel clean help
help:
	@echo "make demo   install, train on the digits data set, evaluate, predict one image (about two minutes after the installation)"
	@echo "make browser-demo  fetch ONNX Runtime for browsers beside demo/index.html, which ranks classes of a picture"
	@echo "make test   install, then run the tests"
	@echo "make test-floor  install the lowest versions that pyproject.toml promises beside it, then ruff, pyright and the tests with them"
	@echo "make check  install, then ruff and pyright"
	@echo "make docs   install, then build the pages as a site: site/html/index.html"
	@echo "make dist   build and check what is published, sdist and wheel: dist/"
	@echo "make clean  remove .venv, the demo's run folder and what was built"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Crosshead needs Python 3.11 or newer; '$(PYTHON)' is older. Name another: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: a changed pyproject.toml installs again, an unchanged one costs nothing.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# Without a compiler, AVX2 or AVX-512 everything works, only slower, and the command says what is missing.
kernel:
	-@$(BIN)/crosshead build

demo: $(VENV)/.installed-train kernel
	$(BIN)/python benchmarks/demo.py

# A static page; of the package it needs three files, which are not committed.
ORT_WEB := build/browser-demo/node_modules/onnxruntime-web/dist
browser-demo:
	npm install --no-save --no-fund --no-audit --silent --prefix build/browser-demo onnxruntime-web@^1.22
	mkdir -p demo/vendor
	cp $(addprefix $(ORT_WEB)/,ort.wasm.min.js ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm) demo/vendor
	@echo "python3 -m http.server --directory demo, then open http://localhost:8000"

test: $(VENV)/.installed-dev kernel
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

# uv resolves to the lowest versions; the environment is made with the lowest Python that is promised. Pyright
# looks for the name that pyproject.toml gives, .venv, in the folder it is told: hence one in a folder of its own.
FLOOR := .venv-floor
FLOOR_BIN := $(FLOOR)/.venv/bin
test-floor:
	python3.11 -m venv $(FLOOR)/.venv
	$(FLOOR_BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(FLOOR_BIN)/uv pip install --quiet --python $(FLOOR_BIN)/python --resolution lowest-direct --editable '.[dev]'
	$(FLOOR_BIN)/ruff check .
	$(FLOOR_BIN)/ruff format --check .
	$(FLOOR_BIN)/pyright --venvpath $(FLOOR)
	-@$(FLOOR_BIN)/crosshead build
	$(FLOOR_BIN)/python -m pytest -n $(WORKERS) -m "not slow"

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site/html
	@echo "open site/html/index.html"

# The wheel is built from the sdist, so that neither lacks a file of the other's.
dist: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	@echo "to publish: $(BIN)/python -m twine upload dist/*"

clean:
	rm -rf $(VENV) $(FLOOR) runs/demo site dist
