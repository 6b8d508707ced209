# make setup | demo | test | check | sanitize | wasm | bench | evidence | queue | docs | clean. Every target does its own set-up: Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
NATIVE := $(wildcard src/mirl/*/native/*.[ch]) src/mirl/engine/native/build.py setup.py
# Keep freed blocks in the process: page faults otherwise halve the speed of PyTorch on a CPU.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 2147483647
# Threads that wait spin only shortly: with other work on the cores the default costs a factor of ten and more.
export GOMP_SPINCOUNT := 2000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check sanitize wasm bench evidence queue queue-status queue-pause queue-go queue-stop queue-snapshot docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# Two processes, each takes whole files in the order of the alphabet: what a file makes once is made once, and short ones end.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_reference.py --check

sanitize: $(STAMP)
	$(BIN)/python tests/sanitize.py

wasm: $(STAMP)
	$(BIN)/pip install --quiet ziglang==0.17.1
	$(BIN)/python src/mirl/engine/native/build_wasm.py

bench: $(STAMP)
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/density.py
	$(BIN)/python bench/sizes.py
	$(BIN)/python bench/load.py
	$(BIN)/python bench/cost.py
	$(BIN)/python bench/wasm.py
	$(BIN)/python bench/train.py --json results/train_speed.json
	$(BIN)/python bench/stream.py --json results/stream_speed.json
	$(BIN)/python bench/tiles.py --json results/tiles.json
	$(BIN)/python bench/serve.py
	$(BIN)/python bench/page.py --json results/page.json

# Goes on with the trainings behind docs/results.md; TIME=30m is a window, without it to the end. RUNS and RESULTS in new
# folders begin from nothing.
DATA ?= ../shared/data/train
TESTS ?= ../shared/data/test
RUNS ?= runs/evidence
RESULTS ?= results/evidence
DEVICE ?= auto
# The project's own results have their page in docs and README; those of another folder lie beside them.
PAGE = $(if $(filter results/evidence,$(RESULTS)),-o docs/results.md --readme README.md,-o $(RESULTS)/results.md)
evidence: $(STAMP)
	$(BIN)/python bench/evidence.py --data $(DATA) --tests $(TESTS) --runs $(RUNS) --results $(RESULTS) --device $(DEVICE) \
		$(if $(TIME),--time-limit $(TIME))
	if ls $(RESULTS)/runs/*/level-00/level.json > /dev/null 2>&1; then $(BIN)/mirl report --evidence $(RESULTS) $(PAGE); \
		else echo "no level is done yet, so there is no page yet"; fi

# Trainings of days from a frozen copy of the code, in the background: evidence/train_queue.py says all. AT, COMMIT and DATA are
# for `queue`; QUEUE is where its state lies.
QUEUE ?= ../queue-runs
TRAIN_QUEUE = $(PYTHON) evidence/train_queue.py
queue:
	$(TRAIN_QUEUE) start --folder $(QUEUE) --data $(DATA) $(if $(COMMIT),--commit $(COMMIT)) $(if $(AT),--at $(AT))

queue-status queue-pause queue-go queue-stop:
	@$(TRAIN_QUEUE) $(@:queue-%=%) --folder $(QUEUE) $(if $(MINUTES),--minutes $(MINUTES))

queue-snapshot:
	$(TRAIN_QUEUE) snapshot --folder $(QUEUE) $(if $(FORCE),--force)

docs: $(STAMP)
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build dist runs/demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
