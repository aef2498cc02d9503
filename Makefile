# make run [PROFILE=quick|laptop|full]   execute all notebooks headless, then make the report
# make run PARAMS="MODEL=resnet20 DATASET='folder:my photos'"    with notebook parameters
# make run CLUSTER=slurm                 each notebook as a job, as profiles/slurm/config.yaml says
# make test                              lint, unit tests, every notebook at profile quick
# make help                              all targets
#
# PYTHON=python3 uses an environment that exists already (Colab, conda) instead of making .venv;
# it must have the packages of pyproject.toml: pip install -e ".[run,slurm,test,course,site]"

PARAMS  ?=
COURSE  ?= build/course
MIRROR  ?= build/mirror
CORES   ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
VENV    := .venv

ifdef PYTHON
  READY :=
else
  PYTHON := $(VENV)/bin/python
  READY  := $(VENV)/.ready
endif

# The committed report is of the committed results, those of profile laptop.
ifeq ($(or $(PROFILE),laptop),laptop)
  REPORT := laptop report/report.pdf
else
  REPORT := $(PROFILE) build/$(PROFILE)/report.pdf
endif
MIRRORED := $(or $(PROFILE),full)
PROFILE ?= quick

# On a cluster, jobs of profile full ask for a graphics card: GPU=0 or GPU=1 says otherwise. Here,
# they use the card that there is, one job at a time.
ifdef CLUSTER
  GPU    ?= $(if $(filter full,$(PROFILE)),1,0)
  JOBS   := look-inside-$(PROFILE)
  RUNNER := --workflow-profile profiles/$(CLUSTER) --$(CLUSTER)-jobname-prefix $(JOBS)
  CONFIG := gpu=$(GPU)
else
  RUNNER := --cores $(CORES) --resources gpu=1
endif

export PARAMS

# The programs of an environment that is named by its folder come first.
ifneq ($(findstring /,$(PYTHON)),)
  export PATH := $(abspath $(dir $(PYTHON))):$(PATH)
endif

.PHONY: help run rehearse test nbval lint render report weights site submission student mirror bench badges clean

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

$(VENV)/.ready: pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e ".[run,slurm,test,course,site]"
	touch $@

# Spaces and quotes of parameters go to Snakemake as in an address, %20 and %27.
run: $(READY) ## execute all notebooks, then make the report; continues where it was interrupted
	@$(if $(CLUSTER),$(PYTHON) scripts/cluster.py $(CLUSTER) $(JOBS))
	@$(PYTHON) -m snakemake $(RUNNER) --quiet rules host reason --nolock --keep-going \
		--rerun-incomplete --config profile=$(PROFILE) $(CONFIG) params="$$($(PYTHON) -c \
		'import os, urllib.parse as p; print(p.quote(os.environ["PARAMS"]))')"

# Stand-ins must never be taken for the real thing later: data and checkpoints have their own folder.
rehearse: $(READY) ## run profile full with small counts, and random weights where none are at hand
	$(PYTHON) scripts/rehearse.py build/rehearsal/mirror
	WORKBOOK_MIRROR=$(CURDIR)/build/rehearsal/mirror WORKBOOK_DATA=$(CURDIR)/build/rehearsal/data \
		$(MAKE) --no-print-directory run PROFILE=rehearsal PARAMS=

# Tests look at the notebooks that `make run` has executed. Each file of tests stays with one core.
test: lint ## lint and test; what make run has not executed yet at profile quick is executed first
	$(MAKE) --no-print-directory run PROFILE=quick PARAMS=
	$(PYTHON) -m pytest -q -n $(CORES) --dist loadfile --no-loadscope-reorder --durations=10 tests

nbval: $(READY) ## execute the notebooks at profile quick once more as tests, cell by cell
	WORKBOOK_PROFILE=quick $(PYTHON) -m pytest -v --nbval-lax notebooks

lint: $(READY) ## check style
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check helpers scripts tests benchmarks

render: ## put the outputs of a laptop run into the notebooks, and make report/report.pdf
	$(MAKE) run PROFILE=laptop
	$(PYTHON) scripts/render.py laptop
	$(MAKE) report PROFILE=laptop

report: $(READY) ## make the committed report, or with PROFILE=... that of another run
	$(PYTHON) scripts/build_report.py $(REPORT)

weights: $(READY) ## train the laboratory's networks again, beside the weights that we ship
	$(PYTHON) scripts/make_weights.py

site: $(READY) ## build the static site from the rendered notebooks
	$(PYTHON) scripts/build_site.py build/site

submission: $(READY) ## pack report, rendered notebooks and code into a zip to hand in
	$(PYTHON) scripts/submission.py build/submission.zip

student: $(READY) ## make the notebooks without solutions, and a course for nbgrader
	$(PYTHON) scripts/student.py $(COURSE)

mirror: $(READY) ## fill a folder with all downloads of a profile, for a room without a network
	$(PYTHON) scripts/mirror.py "$(MIRROR)" --profile $(MIRRORED)

bench: $(READY) ## measure the fast explainers beside the libraries; takes half an hour or more
	for bench in benchmarks/bench_*.py; do $(PYTHON) $$bench || exit 1; done

badges: $(READY) ## stamp the repository's address into README and notebooks
	$(PYTHON) scripts/badges.py

clean: ## remove what runs have made; downloads and checkpoints stay
	rm -rf build figures/quick* figures/full* figures/rehearsal* figures/laptop-*
