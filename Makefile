# make report   run the six notebooks       PROFILE=smoke|quick|full (default quick)  SEEDS=n (default 1)
# make test     everything that CI checks
# make lab      JupyterLab on the notebooks
# make bench    how fast training is, beside other ways to do it
# make publish  the published run shown anew, from its records; PROFILE=full takes over your own run first
# Each sets up what it needs in .venv first.

PYTHON ?= python3
SEEDS ?= 1
CORES ?= all
PROFILE ?= $(KDLIB_PROFILE)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: report test lab bench publish
.DELETE_ON_ERROR:

report: $(READY)
	@profile=$$($(BIN)/python -m kdlib.report choose $(PROFILE)) \
	&& $(BIN)/snakemake --cores $(CORES) --config profile=$$profile seeds=$(SEEDS) \
	     --rerun-incomplete --keep-incomplete --nolock --quiet host progress reason rules \
	&& $(BIN)/python -m kdlib.report summary $$profile

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests
	KDLIB_PROFILE=smoke $(BIN)/python -m pytest --nbval-lax notebooks/

lab: $(READY)
	$(BIN)/jupyter lab notebooks

bench: $(READY) benchmarks/.venv-torchdistill/ready
	$(BIN)/python benchmarks/bench.py

publish: $(READY)
	$(BIN)/python -m kdlib.report publish $(PROFILE)

benchmarks/.venv-torchdistill/ready: benchmarks/torchdistill-requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "Python 3.11 or 3.12 is needed: call make with PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
