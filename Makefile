# Works on a machine that has only Python (3.11 or newer), pip and make:
#   make demo     interpolate the clip in examples/clips, eight times as many frames
#   make test     run the test suite
# The first one that runs makes .venv and installs what is needed there.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CLIP := examples/clips/branch.mp4
TEST_OPTIONS ?=
# Passed to pip, for example --extra-index-url for another build of torch.
PIP_OPTIONS ?=
BENCH_OPTIONS ?=
FUZZ_OPTIONS ?=

# mkdocs-material announces its successor on every build.
export NO_MKDOCS_2_WARNING := 1
# Dozens of tests start the command: what one process has compiled is kept for the next, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test integrations plugin lowest lint format bench docs fuzz clean

help:
	@sed -n '1,4s/^# \{0,1\}//p' Makefile
	@echo 'Also: setup, integrations, plugin, lowest, lint, format, bench, docs, fuzz, clean.'

setup: $(INSTALLED)

# Again whenever pyproject.toml changes. The stamp is written last, so a broken install is redone.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into .venv; two to five minutes, most of them for torch.'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python tools/install.py -e '.[dev]' $(PIP_OPTIONS)
	@touch $@

demo: $(INSTALLED)
	@mkdir -p out
	$(BIN)/rdvfi interpolate $(CLIP) out/demo.mp4 --multiplier 8 --contact-sheet out/demo.png --overwrite
	@echo 'Look at out/demo.mp4 and out/demo.png.'

# One process per core, each with one thread. Whole files go to a process, since fixtures are made once per file; in
# their order, for the longest tests are alone in theirs and would come last.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS)

# What is heavy to install, or wants other versions than .venv has (Gradio another Pillow), in an environment on top of it.
# The page is opened in Chromium where there is one. An environment that is used once need not be compiled whole.
integrations: $(INSTALLED)
	rm -rf out/integrations
	@mkdir -p out
	$(PYTHON) -m venv out/integrations
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > out/integrations/base.pth
	@mv out/integrations/base.pth "$$(out/integrations/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
	@out/integrations/bin/python tools/install.py --no-compile -e '.[demo,vapoursynth,onnx]' $(PIP_OPTIONS)
	@out/integrations/bin/python -c 'import vapoursynth' 2>/dev/null || out/integrations/bin/python tools/vapoursynth_for_311.py
	out/integrations/bin/python -m pytest -q tests/test_serve.py tests/test_integrations_*.py

# The example plug-in, installed beside rdvfi as a user would, and not into .venv.
plugin: $(INSTALLED)
	rm -rf out/plugin
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target out/plugin examples/plugin
	PYTHONPATH=out/plugin $(BIN)/python -m pytest -q -c examples/plugin/pyproject.toml examples/plugin/tests

# The lowest versions that pyproject.toml allows, in an environment of their own: the demo, and every stage of training.
lowest: $(INSTALLED)
	rm -rf out/lowest
	@mkdir -p out
	$(BIN)/python tools/lowest_versions.py metrics train > out/lowest.txt
	$(PYTHON) -m venv out/lowest
	@out/lowest/bin/python tools/install.py --no-compile 'torch==2.13.*' pytest hypothesis -r out/lowest.txt $(PIP_OPTIONS)
	@out/lowest/bin/python tools/install.py --no-deps .
	out/lowest/bin/rdvfi interpolate $(CLIP) out/lowest.mp4 --multiplier 2 --overwrite
	out/lowest/bin/python -m pytest -q tests/test_training.py -k a_whole_recipe_leaves

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# BENCH_OPTIONS=--benchmark-disable runs every benchmark once, without timing it.
bench: $(INSTALLED)
	$(BIN)/python -m pytest -c benchmarks/pytest.ini benchmarks $(BENCH_OPTIONS)

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict
	$(BIN)/python tools/check_links.py site

# Damaged files, senseless arguments and hostile models, at random: FUZZ_OPTIONS='--minutes 30 --seed 7'.
fuzz: $(INSTALLED)
	$(BIN)/python tools/fuzz.py $(FUZZ_OPTIONS)

clean:
	rm -rf .venv out site dist
