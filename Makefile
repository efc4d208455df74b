# make sweep: the main job on embedded data. make budget: would synthetic data help? make claims: all sweeps, and what
# holds. make test: the tests. make docs: the pages of docs/ as a site in build/site.
# Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: sweep budget claims test test-slow chaos drill check docs setup bench clean

sweep: .venv/.run
	$(BIN)/python sweeps/double_descent.py

budget: .venv/.run
	$(BIN)/python sweeps/synthetic_budget.py

SWEEPS := generalization_gaps complexity_axes double_descent synthetic_budget reverse_half_asleep mollification \
	real_synthetic_mix diffusion_subsets representation latent_smoothness more_real_data rate_distortion inference_gap

claims: .venv/.run
	for name in $(SWEEPS); do $(BIN)/python sweeps/$$name.py || exit 1; done
	$(BIN)/vaegen claims

# All parts, whatever fails, with one summary at the end.
test: .venv/.test
	$(BIN)/python tests/run.py

test-slow: .venv/.test
	$(BIN)/python -m pytest -m slow

# Random kills, stops and damage; as root on Linux. ROUND=7 plays that round of the seed again.
MINUTES ?= 20
SEED ?= 1
chaos: .venv/.test
	$(BIN)/python tests/chaos/chaos.py --minutes $(MINUTES) --seed $(SEED) $(if $(ROUND),--round $(ROUND)) $(if $(KEEP),--keep $(KEEP))

drill: .venv/.test
	tests/install.sh
	$(BIN)/python -m pytest -m drill

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup: .venv/.dev

bench: .venv/.test
	$(BIN)/python benchmarks/bundle_step.py
	$(BIN)/python benchmarks/bundles.py
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/amortization.py
	$(BIN)/python benchmarks/dashboard.py

.venv/.base:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.run: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/.test: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@ .venv/.run .venv/.docs

.venv/.docs: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e '.[docs]'
	touch $@ .venv/.run

.venv/.dev: .venv/.base pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/.run .venv/.test .venv/.docs

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache
