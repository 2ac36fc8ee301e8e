.PHONY: bench check docs docs-material figures format long test

check:  ## formatting, lint, types, layers
	ruff format --check .
	ruff check .
	pyright
	lint-imports

format:  ## what check can mend by itself
	ruff format .
	ruff check --fix .

test:  ## the test-suite, on all cores
	python -m pytest

long:  ## the tests that kill and restart, and run whole documents (some minutes)
	python -m pytest -m long

docs:  ## the book, in site/: open site/index.html (needs requirements-docs.txt, and no network)
	zensical build --clean --strict

docs-material:  ## the same pages by mkdocs-material, in build/site-material/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --site-dir build/site-material

figures:  ## tables and figures of all pages, by their own commands (minutes)
	python docs/make_tables.py
	python docs/make_figures.py
	python docs/make_gallery.py

bench:  ## ratios against a plain PyTorch loop, and against Hydra's multirun (ten minutes)
	python benchmarks/engine.py
	python benchmarks/sweep.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/curvature.py
	python benchmarks/instruments.py
