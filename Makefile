# The book and its tests. `make` alone says what there is.
#
# Every target makes .venv first if it is missing or older than requirements.txt or pyproject.toml.

PYTHON ?= python3
EXECUTE ?=
LAB ?=
SETTING ?=

# Recipes run in the Makefile's folder; everything is relative to it, so that its path may contain spaces.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Tests and notebooks start some hundred processes; without compiled files each of them compiles the library anew.
unexport PYTHONDONTWRITEBYTECODE

# One line at the start of a step and one at its end, with the seconds that it took.
say = printf '==> %s\n' $(1)
took = printf '    done in %d s\n' $$((SECONDS - start))

.PHONY: help book lab test quick ledger notebooks portable mutants bench clean distclean

help: ## say what there is
	@printf 'make <target>\n\n'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@printf '\nThe first one that you run makes .venv (Python 3.11 or newer; some minutes and gigabytes, most of it PyTorch).\n'

$(STAMP): requirements.txt pyproject.toml
	@start=$$SECONDS
	command -v "$(PYTHON)" > /dev/null || { echo "No $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1): the book needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(call say,'Making .venv with the packages in requirements.txt (some minutes the first time)')
	rm -f $(STAMP)
	log=$$(mktemp)
	trap 'rm -f "$$log"' EXIT
	run() { "$$@" > "$$log" 2>&1 || { cat "$$log" >&2; printf '==> Failed: %s\n' "$$*" >&2; exit 1; }; }
	[ -x $(BIN)/python ] && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { rm -rf $(VENV); run "$(PYTHON)" -m venv $(VENV); }
	run $(BIN)/python -m pip install --disable-pip-version-check --no-input -r requirements.txt
	run $(BIN)/python -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	touch $(STAMP)
	$(call took)

book: $(STAMP) ## build the book into _build/html (EXECUTE=1 runs every notebook first)
	@start=$$SECONDS
	$(call say,'Building the book$(if $(EXECUTE), and running every notebook)')
	rm -rf _build/html
	EXECUTE='$(EXECUTE)' $(BIN)/python -c 'from jupyter_book.cli.main import main; main()' build book --config _config.yml --toc '$(CURDIR)/_toc.yml' --path-output . --all -W --keep-going -n -q > /dev/null
	$(call took)
	printf '    Open _build/html/index.html\n'

lab: $(STAMP) ## open the notebooks in JupyterLab (LAB='--no-browser' passes it options)
	@$(call say,'Opening JupyterLab on book/ (stop it with Ctrl-C)')
	exec $(BIN)/python -m jupyterlab $(LAB) book

test: book ## run every test: library, notebooks, and the built book in a browser
	@start=$$SECONDS
	$(call say,'Running every test')
	$(BIN)/python -m pytest -n 2 --dist worksteal
	$(call took)

quick: $(STAMP) ## run the tests that need neither the built book nor much time
	@start=$$SECONDS
	$(call say,'Running the quick tests')
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not browser'
	$(call took)

ledger: book ## run every test and write what they prove for the book's proof ledger
	@start=$$SECONDS
	$(call say,'Running every test and writing book/_data/ledger.json')
	$(BIN)/python -m pytest -n 2 --dist worksteal --write-ledger
	$(call took)

notebooks: $(STAMP) ## run every notebook in place and tidy what it stores
	@start=$$SECONDS
	$(call say,'Running every notebook')
	$(BIN)/python tools/notebooks.py
	$(call took)

portable: $(STAMP) ## validate every notebook as other processors would run it (SETTING=sse: as one of them)
	@start=$$SECONDS
	$(call say,'Validating every notebook with the kernels of $(or $(SETTING),several processors)')
	$(BIN)/python tools/portable.py $(addprefix --setting ,$(SETTING))
	$(call took)

mutants: $(STAMP) ## change the library at random and see whether the quick tests notice (ROOM=cost; SAMPLE=100, JOBS=2)
	@start=$$SECONDS
	$(call say,'Changing $(ROOM)')
	$(BIN)/python tools/mutants.py $(ROOM) $(addprefix --sample ,$(SAMPLE)) $(addprefix --jobs ,$(JOBS))
	$(call took)

bench: $(STAMP) ## measure the speed of training and of inference, paired ratios in one process
	@start=$$SECONDS
	$(call say,'Measuring')
	$(BIN)/python benchmarks/training_step.py
	for what in inference families claims predictor kernel_steps products; do $(BIN)/python benchmarks/$$what.py; done
	$(call took)

clean: ## delete the built book and the caches
	@rm -rf _build build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
	$(call say,'Deleted the built book and the caches')

distclean: clean ## the same, and .venv
	@rm -rf $(VENV)
	$(call say,'Deleted .venv')

.ONESHELL:
