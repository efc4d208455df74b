# make sweep: the main job on embedded data. make budget: would synthetic data help? make claims: all sweeps, and what
# holds. make test: the tests.
# Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: sweep budget claims test test-slow drill check setup bench clean

sweep: .venv/.run
	$(BIN)/python sweeps/double_descent.py

budget: .venv/.run
	$(BIN)/python sweeps/synthetic_budget.py

SWEEPS := generalization_gaps complexity_axes double_descent synthetic_budget reverse_half_asleep mollification \
	real_synthetic_mix diffusion_subsets representation latent_smoothness more_real_data rate_distortion inference_gap

claims: .venv/.run
	for name in $(SWEEPS); do $(BIN)/python sweeps/$$name.py || exit 1; done
	$(BIN)/vaegen claims

# What starts Ray has the cores for itself; the rest shares them, a process a core.
test: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/service --ignore tests/cluster
	$(BIN)/python -m pytest tests/service tests/cluster

test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow

drill: .venv/.test
	tests/cluster/install_drill.sh
	$(BIN)/python -m pytest -m drill

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

setup: .venv/.dev

bench: .venv/.run
	$(BIN)/python benchmarks/bundle_step.py
	$(BIN)/python benchmarks/bundles.py
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/amortization.py

.venv/.base:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.run: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/.test: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@ .venv/.run

.venv/.dev: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/.run .venv/.test

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache
