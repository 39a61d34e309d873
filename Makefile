# `make demo` and `make test` work on a new machine. They need make, git, and Python 3.10 to 3.12 with pip and venv.
# On Python 3.13 and later only the network works; training does not.
VENV ?= .venv
PYTHON ?= python3
# The versions that were tested. TORCH="torch torchvision" installs the newest versions.
TORCH ?= torch==2.14.1 torchvision==0.29.1
DEMO ?=
FUZZ ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help setup demo test test-all fuzz wheel lint types format options clean

help:
	@echo "make demo      train a small HAN on real photos, compare it with bicubic (about 5 minutes on 2 cores)"
	@echo "make test      run the fast tests (under 5 minutes on 2 cores)"
	@echo "make test-all  run all tests, also the slow ones (under 20 minutes)"
	@echo "make fuzz      give the program 10,000 hostile inputs (under 20 minutes); FUZZ=\"--seed 1\" sets options"
	@echo "make wheel     build the wheel and the source archive in dist/, with their hashes in SHA256SUMS"
	@echo "make lint      check the code style"
	@echo "make types     check the types"
	@echo "make format    rewrite the Python files in the code style"
	@echo "make options   write the option files in options/"

setup: $(STAMP)

# Install torch first, then BasicSR without build isolation. With isolation, its build would download a second torch.
$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH) "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation "basicsr==1.4.2; python_version < '3.13'"
	$(BIN)/python -m pip install --quiet --no-build-isolation -e ".[dev,peers,export,openvino,spandrel,tiff]"
	@# BasicSR requires opencv-python, which needs libGL. If cv2 cannot be imported, use the package without libGL.
	$(BIN)/python -c "import cv2" || ( \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
	  $(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless && \
	  $(BIN)/python -c "import cv2" )
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python scripts/demo.py $(DEMO)

# One test process per core with one thread each: more threads would slow each other down.
# A crashed test process ends the run at once: with a restarted one, pytest-xdist can wait forever.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0

test: $(STAMP)
	$(PYTEST)

test-all: $(STAMP)
	$(PYTEST) -m "slow or not slow"

fuzz: $(STAMP)
	$(BIN)/python scripts/fuzz.py $(FUZZ)

wheel: $(STAMP)
	$(BIN)/python scripts/make_wheel.py

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
