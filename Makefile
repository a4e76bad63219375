# The commands of this project. Each does all the set-up it needs, given Python >= 3.10 and a package registry.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.installed-demo
INSTALLED := .venv/.installed
LINTED := src tests tools benchmarks
SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What is compiled is kept, whatever the environment says: checks, workers and many tests' processes import the same.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo demo-serve test test-long install check check-text check-types check-imports check-site resolve fix docs docs-serve notebooks bench clean

demo: $(DEMO)  ## Teach the built-in model handwriting, with every method; PHOTOS=FOLDER: then photographs of yours
	$(BIN)/lowshot demo
ifdef PHOTOS
	$(BIN)/lowshot demo --photos "$(PHOTOS)" --out report/photos
endif

demo-serve: $(DEMO)  ## Open a page with a few taught classifiers, and teach it more
	$(BIN)/lowshot serve --demo

test: $(INSTALLED)  ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-long: $(INSTALLED)  ## Run the tests that take long: killed processes, browsers, clusters, exports, whole trainings
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'long and not slow and not gpu'

install: $(INSTALLED)  ## Make .venv with everything in it

check: check-text check-types check-imports check-site  ## Formatting, lint, types, import directions, the site's links

check-text: $(INSTALLED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/ruff check $(LINTED)

check-types: $(INSTALLED)
	$(BIN)/mypy

check-imports: $(INSTALLED)
	$(BIN)/python -m pytest --noconftest -q tests/test_architecture.py

check-site: $(INSTALLED)
	$(SITE) --site-dir $$(mktemp -d)/site

resolve: $(INSTALLED)  ## Whether there are versions of everything for each Python that is claimed; asks the registry
	$(BIN)/python tools/resolve_pins.py

fix: $(INSTALLED)  ## Format, and mend what lint can
	$(BIN)/ruff format $(LINTED)
	$(BIN)/ruff check --fix $(LINTED)

docs: $(INSTALLED)  ## Write what is generated from the code and the results, and build the site into site/
	$(BIN)/python tools/write_reference.py
	$(BIN)/python tools/write_performance.py
	$(SITE)

docs-serve: $(INSTALLED)  ## Show the site on this machine, and again whenever a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

notebooks: $(INSTALLED)  ## Run the notebooks and write what they print into them
	$(BIN)/python tools/run_notebooks.py

bench: $(INSTALLED)  ## Measure this machine; writes benchmarks/results
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/step.py --classes 1000 --steps 2 --variants lowshot-fp32 lowshot-bf16 --memory-budget 4GB
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/quantized.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/levers.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/none_of_these.py
	$(BIN)/python benchmarks/one_more.py
	$(BIN)/python benchmarks/convolutions.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/serving.py --model vit-b16 --repeats 3
	$(BIN)/python benchmarks/load.py

clean:
	rm -rf .venv report site

# Newer pins or dependencies make it install again; otherwise there is nothing to do.
$(DEMO): EXTRAS := photos,quantize,serve
$(INSTALLED): EXTRAS := all,dev,docs,pretrain
$(DEMO) $(INSTALLED): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else f"lowshot needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}. Try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python tools/install.py '$(EXTRAS)'
	touch $(DEMO) $@
