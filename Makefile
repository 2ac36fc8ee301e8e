.PHONY: bench check format test

check:  ## formatting, lint, types, layers
	ruff format --check .
	ruff check .
	pyright
	lint-imports

format:  ## what check can mend by itself
	ruff format .
	ruff check --fix .

test:  ## the whole test-suite, on all cores
	python -m pytest

bench:  ## ratios against a plain PyTorch loop, and against Hydra's multirun (ten minutes)
	python benchmarks/engine.py
	python benchmarks/sweep.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/curvature.py
	python benchmarks/instruments.py
