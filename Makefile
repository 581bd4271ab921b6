# make run: train, compare, and open a report.   make test: every check.   make bench: what a training step costs.   make docs: the documentation.
# Each sets up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT := runs/demo

.PHONY: run test test-all test-plain test-oldest test-gpu test-reliability sanitize dist-check bench bench-suite docs setup clean

setup: $(READY)

# The C++ op is compiled anew when one of its files has changed, wherever among the ops it lies.
SOURCES := $(shell find src/reminding/ops -name '*.cpp' -o -name '*.h')

$(READY): requirements.lock pyproject.toml setup.py $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# The same task for three ways of assigning credit, then real images read pixel by pixel.
COPYING := copying --T 20 --symbols 5 --lr 0.005 --anneal 0.25 --steps 2000 --eval-every 100 --overwrite

SAY_OP = $(BIN)/python -c 'from reminding.ops.cpu_op import missing as m; \
  print("SAB ran in pure PyTorch: " + m() if m() else "SAB ran on the C++ CPU op.")'

run: setup
	$(BIN)/reminding train $(COPYING) --model sab --k-trunc 5 --out $(OUT)/copying-sab
	$(BIN)/reminding train $(COPYING) --model tbptt --k-trunc 5 --out $(OUT)/copying-tbptt
	$(BIN)/reminding train $(COPYING) --model lstm --out $(OUT)/copying-lstm
	$(BIN)/reminding train digits --hidden-size 64 --lr 0.005 --anneal 0.25 --steps 1200 --eval-every 100 --overwrite --out $(OUT)/digits-sab
	$(BIN)/reminding report $(OUT)/copying-sab $(OUT)/copying-tbptt $(OUT)/copying-lstm $(OUT)/digits-sab --out $(OUT)/report
	@$(SAY_OP)
	@echo "Open $(OUT)/report/index.html"

# One thread a test process: two processes on two cores are faster than two threads in each. Each process has tests that
# stand together, so that what a file prepares is prepared once, and takes over some of another's at the end.
CHECKS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --durations=15

test: setup
	@$(SAY_OP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(CHECKS) -m "not slow"

# Also the slow tests, the examples of hypothesis drawn anew, and the packages built and installed. Triton is large, and
# for Linux alone: only here, where its interpreter runs the CUDA kernels on the CPU.
test-all: setup
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check triton==3.9.0
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	REMINDING_EXAMPLES=anew TRITON_INTERPRET=1 $(CHECKS)

# `make test`'s tests as they are where there is no C++ compiler: on a copy of the package without its op.
PLAIN := build/plain

test-plain: setup
	rm -rf $(PLAIN) && mkdir -p build && cp -r src $(PLAIN) && rm -f $(PLAIN)/reminding/ops/cpu_op/_sab_cpu*
	PYTHONPATH=$(CURDIR)/$(PLAIN) $(CHECKS) -m "not slow"

# The oldest PyTorch, NumPy and Python that the package supports, in a virtual environment of their own. On Linux this
# PyTorch brings its CUDA libraries (3 GB); PIP_EXTRA_INDEX_URL can name an index that has it for the CPU. The C++ op
# needs a newer PyTorch, so its tests are skipped; the documentation is built with the locked versions alone.
OLDEST := .venv-oldest
PYTHON_OLDEST ?= python3.11

test-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto -m "not slow" --ignore tests/docs/test_build.py \
	  -W "ignore:Passing a non-Collection iterable"  # which scikit-learn 1.6 does

$(OLDEST)/.ready: requirements.lock requirements-oldest.txt pyproject.toml setup.py
	@$(PYTHON_OLDEST) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed, $(PYTHON_OLDEST) is not; try: make PYTHON_OLDEST=/path/to/python3.11 test-oldest"; exit 1; }
	$(PYTHON_OLDEST) -m venv --clear $(OLDEST)
	awk -F== 'NR == FNR { old[$$1]; next } !($$1 in old)' requirements-oldest.txt requirements.lock > $(OLDEST)/newer.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-oldest.txt -r $(OLDEST)/newer.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Build the source archive and the wheel, and import the installed wheel.
dist-check: setup
	$(BIN)/python -m pytest -m slow tests/test_dist.py

# On a machine with a CUDA device and a PyTorch built for it: the kernels as they are, not interpreted. One process: they
# share the device.
test-gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m pytest tests/ops/cuda_op/test_gpu.py tests/ops/cuda_op/test_forward.py tests/ops/cuda_op/test_search.py tests/ops/cuda_op/test_operator.py

# Every campaign of tests/reliability: runs that are killed, stopped, out of space or trained twice, damaged files, states
# and arguments, threads and processes, sanitizers, a long stream. A quarter of an hour on two idle cores.
test-reliability: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability --jobs 2 --out results/reliability

# AddressSanitizer and UndefinedBehaviorSanitizer over the C++ op, some minutes. Any report fails it.
sanitize: setup
	$(BIN)/python tests/ops/sanitize.py --out build/sanitize

# Ten minutes or so on two cores.
bench: setup
	$(BIN)/reminding bench --T 100 400 1600 --repetitions 3 --out runs/bench

# Every figure of results/bench; benchmarks/README.md says what that takes.
bench-suite: setup
	REMINDING=$(BIN)/reminding benchmarks/run_suite.sh results/bench

# Pages to open: docs/_build/html/index.html.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) build dist docs/_build docs/_generated *.egg-info .pytest_cache .ruff_cache .hypothesis
