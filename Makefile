# make report   run the six notebooks        PROFILE=smoke|quick|full (default quick)  SEEDS=n (default 1)  CORES=n
#               EXTRA=1: and the three beyond the note
# make test     everything that CI checks
# make book     the published notebooks as a book for the browser; with PROFILE=…, those of your own run
# make lab      JupyterLab on the notebooks  LAB="--no-browser --ip 0.0.0.0": its own options
# make bench    how fast training is, beside other ways to do it, and minutes to an accuracy
# make publish  the published run shown anew, from its records; PROFILE=full takes over your own run first
# make lock     requirements.lock from requirements.txt
# Each sets up what it needs in .venv first: with PYTHON=python3.13 another Python, with TORCH_BACKEND=auto (or cpu,
# cu130, …) the build of torch that uv finds for this machine on PyTorch's own index.

PYTHON ?= python3
TORCH_BACKEND ?=
LAB ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# uv installs in seconds; where there is none, pip puts one into the environment.
UV := $(or $(shell command -v uv),$(BIN)/uv)

.PHONY: report test units cells book lab bench publish lock environment extra
.DELETE_ON_ERROR:

# A notebook or module that is newer than now would be executed again at every call.
report: environment
	@touch $(VENV)/now; late="$$(find notebooks kdlib \( -name '*.py' -o -name '*.ipynb' \) -newer $(VENV)/now | head -n 1)"; [ -z "$$late" ] \
	  || { echo "$$late is dated in the future: set the clock right, or give: touch $$late"; exit 1; }
	@$(BIN)/python -m kdlib.report.run report $(MAKEOVERRIDES)

test: environment extra
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs 2 units cells

units:
	$(BIN)/python -m pytest -n auto --dist worksteal tests

# Every code cell runs twice in a row, in a folder of its own, so that everything is trained anew.
cells:
	@rm -rf build/nbval
	@$(BIN)/python tests/twice.py build/nbval/notebooks
	KDLIB_PROFILE=smoke KDLIB_ROOT=$(CURDIR)/build/nbval OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval-lax build/nbval/notebooks

book: environment
	@$(BIN)/python book/build.py $(PROFILE)

lab: environment
	@[ "$$(id -u)" != 0 ] || echo "You are root: JupyterLab is started with --allow-root."
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB) notebooks

bench: environment benchmarks/.venv-torchdistill/ready
	$(BIN)/python benchmarks/bench.py

publish: environment
	@$(BIN)/python -m kdlib.report.publish $(PROFILE)

benchmarks/.venv-torchdistill/ready: benchmarks/torchdistill-requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# uv reads none of pip's settings, by which a company's mirror is named: they are passed on, unless uv has its own.
# Like pip, it then takes a version from whichever index has it.
INSTALL = like_pip() { eval "value=\$${$$1:-\$$$$2}"; \
  [ -n "$$value" ] || value="$$($(PYTHON) -m pip config get global.$$3 2>/dev/null)"; \
  [ -z "$$value" ] || export "$$1=$$value"; }; \
  like_pip UV_DEFAULT_INDEX PIP_INDEX_URL index-url; like_pip UV_INDEX PIP_EXTRA_INDEX_URL extra-index-url; \
  like_pip UV_FIND_LINKS PIP_FIND_LINKS find-links; \
  export UV_INDEX_STRATEGY="$${UV_INDEX_STRATEGY:-unsafe-best-match}"; \
  [ -x "$(UV)" ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
  "$(UV)" pip install --quiet --python $(BIN)/python --constraints requirements.lock

# Set up anew where .venv stands in another folder than it was made in, where what it was made from has changed (its
# content, not its date), or where another Python or build of torch is asked for.
# The lock's versions are constraints, not a list to install: it names packages of every system.
environment:
	@made="$(CURDIR) $$(cat requirements.txt requirements.lock pyproject.toml | cksum)"; \
	torch="$(if $(filter file,$(origin TORCH_BACKEND)),$$(sed -n 2p $(READY) 2>/dev/null),$(TORCH_BACKEND))"; \
	version() { "$$1" -c 'import sys; print(sys.version)'; }; \
	[ "$$(cat $(READY) 2>/dev/null)" = "$$(printf '%s\n' "$$made" "$$torch")" ] \
	  && { [ "$(origin PYTHON)" = file ] || [ "$$(version $(PYTHON))" = "$$(version $(BIN)/python)" ]; } && exit; \
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	  || { echo "$(PYTHON) is not a Python 3.11 to 3.14: name one, as in make PYTHON=/usr/bin/python3"; exit 1; }; \
	$(PYTHON) -m venv --clear $(VENV) || exit; \
	$(INSTALL) $${torch:+--torch-backend=$$torch} --requirements requirements.txt \
	  && printf '%s\n' "$$made" "$$torch" > $(READY)

# Apart from the rest, which every reader sets up.
extra: environment
	@cmp -s requirements-extra.txt $(VENV)/extra && exit; \
	$(INSTALL) --requirements requirements-extra.txt && cp requirements-extra.txt $(VENV)/extra

lock: environment extra
	"$(UV)" pip compile --quiet --universal --python-version 3.11 --no-emit-package kdlib --no-annotate \
	  --custom-compile-command "make lock" --upgrade --output-file requirements.lock requirements.txt requirements-extra.txt
