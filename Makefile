# `make demo` runs the main job on simulated data, `make test` the tests. Both set up .venv first.
BIN := .venv/bin
READY := .venv/ready
PHANTOM := data/phantom/data.json

.PHONY: demo test check clean-demo

demo: $(READY) $(PHANTOM)
	$(BIN)/thyrojax train quickstart --data data/phantom --workdir runs/demo
	$(BIN)/thyrojax evaluate runs/demo --split test --margin 50
	$(BIN)/thyrojax explain runs/demo
	$(BIN)/thyrojax report runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 --jaxtyping-packages=thyrojax,beartype.beartype

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean-demo:
	rm -rf runs/demo data/phantom

$(PHANTOM): | $(READY)
	$(BIN)/thyrojax data build phantom --patients 600 --out data/phantom

# The newest Python that can be found, unless PYTHON names one.
$(READY): requirements.txt pyproject.toml
	"$${PYTHON:-$$(tools/find_python.sh)}" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $(READY)
