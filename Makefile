# `make` alone lists the targets. Everything runs in .venv, which the first target makes.
# PYTHON=...  interpreter to make .venv with (3.11 to 3.13)      ARGS=...  further arguments for the program

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test setup lab docs docs-serve bench export outputs clean
PYTHON ?=
ARGS ?=
READY := .venv/ready
BIN := .venv/bin
export PYTHON

help:
	@echo "make run          set up and run the main job: adaptive-dropout reproduce (ARGS=\"--quick\" for the short one)"
	@echo "make test         set up and run all checks; the last line is 'N passed, M failed'"
	@echo "make lab          JupyterLab on the pages in nbs/"
	@echo "make docs         the site in _docs/    (make docs-serve: build it and serve it at http://localhost:8000)"
	@echo "make bench        timings against peers, side by side"
	@echo "make export       write adaptive_dropout/ and README.md from the pages in nbs/"
	@echo "make outputs      run the quick pages and store their outputs anew"
	@echo "make setup        only make .venv"
	@echo "make clean        remove what was built; .venv stays (remove it by hand to start afresh)"

setup: $(READY)

$(READY): settings.ini setup.py constraints.txt
	@sh tools/setup.sh

run: $(READY)
	@$(BIN)/adaptive-dropout reproduce $(ARGS)

test: $(READY)
	@$(BIN)/python tools/check.py $(ARGS)

lab: $(READY)
	@$(BIN)/python -m jupyterlab --notebook-dir=nbs $(ARGS)

docs: $(READY)
	@$(BIN)/python tools/site_builder.py

docs-serve: docs
	@echo "http://localhost:8000 (Ctrl-C ends it)"
	@$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _docs

bench: $(READY)
	@ls benchmarks/*.py >/dev/null 2>&1 || { echo "no benchmarks yet"; exit 1; }
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; done

export: $(READY)
	@$(BIN)/nbdev_export
	@$(BIN)/python tools/readme.py

outputs: $(READY)
	@$(BIN)/python tools/notebooks.py run $(ARGS)
	@$(BIN)/nbdev_clean

clean:
	@rm -rf _docs _proc _fresh build dist *.egg-info .pytest_cache .ruff_cache .hypothesis nbs/nbdev.yml
	@find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
	@echo "Removed what was built; .venv stays."
