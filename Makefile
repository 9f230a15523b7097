# Each target does all the set-up it needs: `make demo` and `make test` work in a bare clone with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WEB = clients/web
# Modules compile when they are first used: all of them would take half of the installation's time. What compiled is kept,
# even where the shell asks for the opposite, as container images do: each program that a test starts would compile torch again.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
.PHONY: demo setup test lint bench bench-long page page-setup container container-cluster clean

demo: $(VENV)/.demo
	$(BIN)/streamcodec demo

setup: $(VENV)/.dev

# No test's verdict hangs on what else runs, so they run side by side, one thread each. Threads that wait do not keep a processor busy.
test: export OMP_WAIT_POLICY = passive
test: export OMP_NUM_THREADS = 1
# With CI set, nothing that a test needs may lack: the page's packages are among that.
test: $(VENV)/.dev $(if $(CI),page-setup)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if [ -d $(WEB)/node_modules ]; then npm --prefix $(WEB) run check; fi

# ARGS=--resume goes on where a run was stopped; ARGS=--help tells the others.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.run_all $(ARGS)

bench-long: $(VENV)/.dev
	$(BIN)/python -m benchmarks.run_all --long $(ARGS)

# The browser's part needs Node 20 or newer; nothing else does, as what `page` builds is a part of the package.
page: page-setup
	npm --prefix $(WEB) run build

page-setup: $(WEB)/node_modules/.package-lock.json

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	cd $(WEB) && npm ci

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[codec,plots]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

# Builds the server's image and tries it: needs podman or docker, and nothing else does.
container: $(VENV)/.demo
	.ci/try-container

# Starts three nodes with NATS and Prometheus, and tries them: needs podman and podman-compose, or docker with its compose.
container-cluster: $(VENV)/.demo
	.ci/try-cluster

clean:
	rm -rf $(VENV) $(WEB)/node_modules demo-out build *.egg-info
