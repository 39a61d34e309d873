# Two commands carry a new machine from nothing: `make demo` and `make test`. Needed: Python 3.10 to 3.12 with pip and
# venv, git, make. Python 3.13 and later run the network, not BasicSR's training.
VENV ?= .venv
PYTHON ?= python3
# The versions that the tests ran with; TORCH="torch torchvision" takes the newest.
TORCH ?= torch==2.14.1 torchvision==0.29.1
DEMO ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help setup demo test test-all lint types format options clean

help:
	@echo "make demo      train a small HAN on real photos and show the result (about 5 minutes on 2 cores)"
	@echo "make test      run the tests (under 5 minutes on 2 cores)"
	@echo "make test-all  run the slow tests too (under 20 minutes)"
	@echo "make lint types format options   what CI checks; format and options write"

setup: $(STAMP)

# torch first, then BasicSR without build isolation: its build would download a torch of its own.
$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation "basicsr==1.4.2; python_version < '3.13'"
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[dev,peers,export,openvino,spandrel,tiff]"
	@# opencv-python, which BasicSR asks for, needs libGL; a machine without a screen may lack it.
	$(BIN)/python -c "import cv2" || ( \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
	  $(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless && \
	  $(BIN)/python -c "import cv2" )
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python scripts/demo.py $(DEMO)

# One test process for each core, one thread in each: threads that wait for each other cost more than they give.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: $(STAMP)
	$(PYTEST)

test-all: $(STAMP)
	$(PYTEST) -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

options: $(STAMP)
	$(BIN)/python scripts/make_options.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
