# make run · make test · make lab: each sets itself up first, in .venv, once.
PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.made
RUN    := runs/fashion
# CPU-only torch, a tenth of the size, where there is no GPU: make TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# of make record: digits or fashion, draws of the long tail, experiments
DATA   := fashion
DRAWS  := ldam,1,2
PARTS  := after chosen samples filters exposure collapse cbdm classifiers sau noise ladder amounts samplers
# a study's results to be committed, without its pictures, or with those of the N rarest classes: $(KEEP) FROM TO [N]
KEEP   := $(BIN)/python -c "import sys; from ltnb.core import load_json, save_json; r = load_json(sys.argv[1]); tail = [*r.pop('pictures')['tail'].items()]; r |= {'pictures': {'tail': dict(tail[-int(n):])} for n in sys.argv[3:]}; save_json(sys.argv[2], r)"
OTHERS := $(filter-out $(notdir $(wildcard nbs/[1-4]0_*.ipynb)),$(notdir $(wildcard nbs/*.ipynb)))

.PHONY: help run test lab export readme outputs record record-study record-desk $(PARTS:%=record-%) slides bench faults gpu docs dist extras clean
.DEFAULT_GOAL := help

help:
	@echo 'make run      the whole study on photographs of Fashion-MNIST: figures, tables and $(RUN)/report.html'
	@echo 'make test     the tests'
	@echo 'make lab      JupyterLab on the notebooks'
	@echo 'make export   after an edit in nbs/: clean the notebooks, write the package and README.md'
	@echo 'make outputs  execute all notebooks, to commit what they show'
	@echo 'make record   what is behind the figures with spread: three draws of the long tail (hours; by parts: make record-study, record-filters …)'
	@echo 'make record-desk ROOT=… CIFAR-10-LT on two cores, hours for each seed of the generators, SEEDS=0,1 for two (DESK=fashion_mnist: Fashion-MNIST at its full size)'
	@echo 'make bench    what is fast, by how much, and against what, on this machine (under ten minutes on two cores)'
	@echo 'make gpu      on a GPU: the benchmarks, and a study of the preset budget of each file of PACKS (ltnb data pack)'
	@echo 'make faults   processes killed at random moments, 40 times each of five commands; goes on where it was (an hour); the table is tests/faults/kills.md'
	@echo 'make slides   the reading group and its five notebooks as slides, in runs/slides'
	@echo 'make docs     the notebooks and all modules as a site with search, in _docs/site; no link may be broken'
	@echo 'make extras   the tests that need optional packages (datasets, timm, tensorboard, latex2mathml), which this installs'
	@echo 'make dist     sdist and wheel in dist/, installed into an empty folder and tried there'
	@echo 'make clean    delete .venv (runs/ stays)'

$(STAMP): settings.ini constraints.txt
	@echo 'Setting up .venv (once; torch is about 6 GB, a few minutes)'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "ltnb needs Python 3.10 or newer; try: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --no-compile --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev]'
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c 'import ltnb.study, nbclient, nbconvert, pytest'   # compiles what is used, not all
	@mkdir -p .venv/share/jupyter/lab/settings   # JupyterLab asks nobody whether it may fetch news
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' > .venv/share/jupyter/lab/settings/overrides.json
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/ltnb study --data fashion --out $(RUN) --notebooks nbs

# two processes of one thread each, which take whole files, the longest first; what they import is compiled once, and not in each of many processes
test: $(STAMP)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

lab: $(STAMP)
	@$(BIN)/jupyter lab --notebook-dir=nbs $(if $(filter 0,$(shell id -u)),--allow-root) nbs/index.ipynb

export: $(STAMP)
	@$(BIN)/python tests/badges.py
	@$(BIN)/nbdev_clean && $(BIN)/nbdev_export && $(MAKE) --no-print-directory readme

readme: $(STAMP)
	@$(BIN)/python tests/readme.py

outputs: run
	@cp $(RUN)/notebooks/*.ipynb nbs/
	@cd nbs && IN_TEST=1 LTNB_PROGRESS=0 LTNB_WIDGETS=0 ../$(BIN)/jupyter nbconvert --log-level=ERROR --ExecutePreprocessor.store_widget_state=False --to notebook --execute --inplace $(OTHERS)
	@$(BIN)/python tests/shrink.py nbs/[1-5]*.ipynb
	@$(MAKE) --no-print-directory export

# Each part of the record is kept when it is done; an interrupted one is resumed. DATA is fashion or digits.
record: record-study $(PARTS:%=record-%)

record-study: $(STAMP)
	@$(BIN)/ltnb study --data $(DATA) --draws $(DRAWS) --out runs/record-$(DATA)
	@mkdir -p nbs/recorded/$(DATA) && $(KEEP) runs/record-$(DATA)/results.json nbs/recorded/$(DATA)/study.json

$(PARTS:%=record-%): record-%: $(STAMP)
	@$(BIN)/ltnb experiment $* --data $(DATA) --draws $(DRAWS) --out runs/experiments-$(DATA)
	@mkdir -p nbs/recorded/$(DATA) && cp runs/experiments-$(DATA)/experiments/$*.json nbs/recorded/$(DATA)/

# A night and more on two cores for each seed of the generators, with images at their full size: CIFAR-10-LT, or DESK=fashion_mnist; ROOT is
# torchvision's folder of the data. NAME is that of the folder in runs/ and of the record.
DESK  := cifar10
SEEDS := 1
NAME  := $(DESK)-lt
record-desk: $(STAMP)
	@$(BIN)/ltnb study --data $(DESK):$(ROOT) --imbalance-factor 100 --preset desk --generators ddpm,ddpm+w=0,ddpm+w=-0.25,ddpm+w=1.6,cbdm,cbdm+w=0,cbdm+w=0.8,t2h+w=0,coral+w=0 \
	    --rows ce,la,ce+adjusted,la+adjusted,ce+ddpm,ce+ddpm+adjusted,ce+cbdm,ce+cbdm+adjusted,ce+cbdm+diffult,ce+cbdm+as-many,ce+cbdm+as-many+adjusted,ce+cbdm+filter,ce+cbdm+filter+adjusted,la+cbdm+filter+weight,la+cbdm+filter+weight+adjusted,sau,sau+adjusted,oracle \
	    --generator-seeds $(SEEDS) --out runs/record-$(NAME)
	@$(KEEP) runs/record-$(NAME)/results.json nbs/recorded/$(NAME).json 2

# Opened without a network: reveal.js and MathJax come from two packages, once, and lie in runs/slides/static
slides: $(STAMP)
	@$(BIN)/python tests/slides.py runs/slides nbs/60_reading_group.ipynb nbs/[1-4]0_*.ipynb nbs/25_after.ipynb

docs: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(BIN)/python tests/docs.py _docs

dist: $(STAMP)
	@rm -rf dist build && $(BIN)/python -m build --outdir dist . >/dev/null
	@$(BIN)/python tests/release.py dist

extras: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hf,timm,log,docs]'
	@$(BIN)/python -m pytest tests/test_sources.py tests/test_export.py tests/test_tracking.py tests/test_timm.py tests/test_docs.py

faults: $(STAMP)
	@$(BIN)/python tests/faults

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

gpu: bench
	@for f in $(PACKS); do name=$$(basename $$f .pack)-budget && \
	    $(BIN)/ltnb study --data pack:$$f --preset budget --workers 4 --out runs/$$name && \
	    $(KEEP) runs/$$name/results.json benchmarks/results/$$name.json || exit 1; done

clean:
	@rm -rf .venv
