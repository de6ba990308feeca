# make report   run the six notebooks        PROFILE=smoke|quick|full (default quick)  SEEDS=n (default 1)  CORES=n
#               EXTRA=1: and the three beyond the note
# make test     everything that CI checks
# make book     the published notebooks as a book for the browser; with PROFILE=…, those of your own run
# make lab      JupyterLab on the notebooks
# make bench    how fast training is, beside other ways to do it, and minutes to an accuracy
# make export   a trained network as ONNX    ARM=distill|baseline|… (default distill)  PROFILE=… (default published)
# make publish  the published run shown anew, from its records; PROFILE=full takes over your own run first
# make lock     requirements.lock from requirements.txt
# Each sets up what it needs in .venv first: with PYTHON=python3.13 another Python, with TORCH_BACKEND=auto (or cpu,
# cu130, …) the build of torch that uv finds for this machine on PyTorch's own index.

PYTHON ?= python3
ARM ?= distill
TORCH_BACKEND ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# uv installs in seconds; where there is none, pip puts one into the environment. It does not read pip's settings.
UV := $(or $(shell command -v uv),$(BIN)/uv)
GET_UV = test -x "$(UV)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

.PHONY: report test book lab bench export publish lock
.DELETE_ON_ERROR:

report: $(READY)
	@$(BIN)/python -m kdlib.report report $(MAKEOVERRIDES)

test: $(READY) $(VENV)/extra
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal tests
	KDLIB_PROFILE=smoke $(BIN)/python -m pytest --nbval-lax notebooks/

book: $(READY)
	@$(BIN)/python -m kdlib.report book $(PROFILE)

lab: $(READY)
	$(BIN)/jupyter lab notebooks

bench: $(READY) benchmarks/.venv-torchdistill/ready
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/picture.py

export: $(VENV)/extra
	$(BIN)/python -m kdlib.report export $(ARM) $(PROFILE)

publish: $(READY)
	$(BIN)/python -m kdlib.report publish $(PROFILE)

benchmarks/.venv-torchdistill/ready: benchmarks/torchdistill-requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# The lock's versions are constraints, not a list to install: it names packages of every system.
$(READY): requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	  || { echo "Python 3.11 to 3.14 is needed: call make with PYTHON=python3.12, for example"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(GET_UV)
	@"$(UV)" pip install --quiet --python $(BIN)/python $(TORCH_BACKEND:%=--torch-backend=%) \
	  --requirements requirements.txt --constraints requirements.lock
	@touch $@

# Apart from the rest, which every reader sets up.
$(VENV)/extra: $(READY) requirements-extra.txt
	@$(GET_UV)
	@"$(UV)" pip install --quiet --python $(BIN)/python --requirements requirements-extra.txt \
	  --constraints requirements.lock
	@touch $@

lock: $(READY)
	@$(GET_UV)
	"$(UV)" pip compile --quiet --universal --python-version 3.11 --no-emit-package kdlib --no-annotate \
	  --custom-compile-command "make lock" --upgrade --output-file requirements.lock requirements.txt requirements-extra.txt
