# make reproduce   install, train, evaluate, write reports/ and print the headline table
# make study       after that, the study of all methods, ablations and controls (hours; goes on
#                  where it was stopped)
# make photos      install, then the study on photographs, from the archives that are below data/raw
#                  (hours; goes on where it was stopped)
# make paper       tables (LaTeX) and figures (PDF) of what is there, into runs/paper; after the above
# make test        install, then the tests, notebooks included
# make quick       the tests of the core alone: methods, maps, boxes, metrics
# make check       install, then ruff (rules and format) and mypy; seconds, changes nothing
# make docs        install, then pages of the functions and their docstrings: build/docs
# make site        the same, with reports/ around them: build/site, what GitHub Pages shows
# make test-browser
#                  install, then all notebooks in JupyterLab and all report pages, in a Chromium;
#                  screenshots in runs/browser
# make bench       install, then write reports/tables/benchmark.csv and benchmark_training.csv
# make lab         install, then JupyterLab on this machine only
# make lock        write requirements.lock anew from pyproject.toml
# make clean       remove what a run made (reports/ and data/raw/ stay)
# make distclean   the same, and .venv
#
# Another interpreter: make PYTHON=python3.12 reproduce

PYTHON ?= python3
UV_VERSION := 0.13.9
LAB_ARGS ?=

# Only relative paths, so that the folder may have spaces in its name, and only `python -m`,
# so that it may be moved.
VENV_PYTHON := .venv/bin/python
STAMP := .venv/wsol-installed
WITH_VENV := PATH="$$PWD/.venv/bin:$$PATH" JUPYTER_PREFER_ENV_PATH=1
UV := $(VENV_PYTHON) -m uv --quiet pip

.PHONY: reproduce study photos paper test quick test-browser check docs site bench lab lock clean distclean setup
.DELETE_ON_ERROR:

# A moved or copied folder still has the old one's wsol installed: install it again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

reproduce: setup
	@$(WITH_VENV) python -m dvc repro
	@$(WITH_VENV) wsol report show

# Two groups of stages at a time: each trains on one core, which these small networks use better
# than two. Nothing in a line waits for something else in it.
study: reproduce
	@$(MAKE) --no-print-directory -j2 $(addprefix study-,search train combine control change first_stage)
	@$(MAKE) --no-print-directory -j2 $(addprefix study-,evaluate second_stage posthoc few_shot)
	@$(WITH_VENV) python -m dvc repro study/dvc.yaml

study-%:
	@$(WITH_VENV) python -m dvc --wait-for-lock repro --single-item study/dvc.yaml:$*

photos: setup
	@$(WITH_VENV) python study/photos.py
	@$(WITH_VENV) python study/photos_report.py
	@$(WITH_VENV) wsol notebook notebooks/93_photographs.ipynb runs/photos/93_photographs.ipynb \
	    --set figures=reports/figures
	@$(WITH_VENV) wsol report pages --out reports/photos_pages runs/photos/93_photographs.ipynb
	@$(WITH_VENV) wsol report site

paper: setup
	@$(WITH_VENV) wsol notebook notebooks/90_report.ipynb runs/paper/90_report.ipynb --section report \
	    --section seeds --set data=data/birds --set out=runs/paper --set figure_type=pdf
	@$(WITH_VENV) wsol notebook notebooks/93_photographs.ipynb runs/paper/93_photographs.ipynb \
	    --set figures=runs/paper/figures --set figure_type=pdf
	@cp reports/tables/photos.tex reports/tables/methods.tex runs/paper/tables
	@ls runs/paper/tables/*.tex runs/paper/figures/*.pdf

# The notebooks share runs/smoke, so they run one after the other; the tests, file by file, in two
# processes of one thread each.
test: setup
	@$(WITH_VENV) TQDM_DISABLE=1 OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --ignore tests/browser tests
	@$(WITH_VENV) TQDM_DISABLE=1 python -m pytest --nbval-lax --nbval-current-env notebooks

quick: setup
	@$(WITH_VENV) TQDM_DISABLE=1 python -m pytest -q -m "not slow" $(addprefix tests/test_, \
	    $(addsuffix .py,methods other_methods maps boxes metrics failures localization))

check: setup
	@$(WITH_VENV) python -m ruff check .
	@$(WITH_VENV) python -m ruff format --check .
	@$(WITH_VENV) python -m mypy

# pdoc looks for the types of a generated `__init__` where they were not imported; the pages have
# the names all the same.
docs: setup
	@rm -rf build/docs
	@$(WITH_VENV) python -W 'ignore:Error parsing type annotation' -m pdoc --docformat numpy \
	    --output-directory build/docs wsol

site: docs
	@rm -rf build/site
	@mkdir -p build/site
	@git ls-files -z -- reports docs notebooks study wsol data benchmarks README.md LICENSE \
	    | tar -cf - --null -T - | tar -xf - -C build/site
	@cp -R build/docs build/site/api
	@cp .github/pages/index.html build/site/index.html

# Not a part of `test`: it wants a Chromium, and says so and is content where there is none.
test-browser: setup
	@$(WITH_VENV) python -m pytest --tb=short --durations=0 --durations-min=1 tests/browser

bench: setup
	@$(WITH_VENV) OMP_NUM_THREADS=1 python benchmarks/evaluator.py
	@$(WITH_VENV) OMP_NUM_THREADS=1 python benchmarks/oracle.py
	@$(WITH_VENV) TQDM_DISABLE=1 python benchmarks/training.py

lab: setup
	@$(WITH_VENV) python -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$$PWD" \
	    --LabApp.default_url=/lab/tree/notebooks $(LAB_ARGS)

# DVC expects Git unless it is told: an unpacked archive has none.
setup: $(STAMP)
	@test -e .git || grep -qs no_scm .dvc/config.local \
	    || printf '[core]\n    no_scm = true\n' >> .dvc/config.local

$(STAMP): requirements.lock pyproject.toml
	@test -x $(VENV_PYTHON) \
	    || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' \
	    || { echo 'Python 3.11.4 or newer is needed, and "$(PYTHON)" is not: name one, as in' \
	              '"make PYTHON=python3.11 $(MAKECMDGOALS)".' >&2; exit 1; }
	@echo 'Installing the pinned environment into .venv (about 6 GB, some minutes) ...'
	@test -x $(VENV_PYTHON) || $(PYTHON) -m venv .venv
	@$(VENV_PYTHON) -m pip install --quiet uv==$(UV_VERSION)
	@$(UV) sync --python $(VENV_PYTHON) --require-hashes --compile-bytecode requirements.lock
	@$(UV) install --python $(VENV_PYTHON) --no-build-isolation --no-deps --editable .
	@pwd > $(STAMP)

lock:
	@test -x $(VENV_PYTHON) || $(PYTHON) -m venv .venv
	@$(VENV_PYTHON) -m pip install --quiet uv==$(UV_VERSION)
	@$(UV) compile --universal --python-version 3.11.4 --extra dev --generate-hashes --no-header \
	    --output-file requirements.lock pyproject.toml > /dev/null

clean:
	rm -rf runs build data/birds* .dvc/cache .dvc/tmp wsol.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis notebooks/.ipynb_checkpoints
	find wsol tests study -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
