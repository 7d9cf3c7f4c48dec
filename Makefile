# Everything goes into .venv/ in this folder; whatever is in .venv/bin works without activating it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup ray demo test test-slow lint format book lab doctor cifar10 cifar100 lock clean

setup: $(READY)

# Installed packages come from the lock file alone; DeepSpeed's C++ ops are compiled here, not
# inside somebody's first trial.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install Python 3.11, or run make PYTHON=python3.11"; exit 1; }
	@command -v g++ > /dev/null || \
	  { echo "g++ is missing, which DeepSpeed needs: install it (Debian: apt install g++)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/dsstudy doctor --compile-ops
	@touch $@

# For dsstudy run FILE --ray ADDRESS; nothing that the lock file names is changed.
ray: setup
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-build-isolation --editable .[ray]

# The 42 trials on embedded synthetic images, and the book over them.
demo: setup
	$(BIN)/dsstudy run parameters/demo.yaml
	$(BIN)/dsstudy book runs/demo runs/demo/book

# The published book, over the committed results of every study; of one: make book STUDY=small
book: setup
	$(BIN)/dsstudy book book/results/$(STUDY) book/_build/html

# Two test files at a time: much of a test is one process that imports torch.
test: setup lint
	$(BIN)/pytest --nbmake --numprocesses 2 --dist loadfile

# The long ones: 200 random kills, a kill at every write, clusters; over an hour on two cores.
test-slow: ray
	$(BIN)/pytest -m slow tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/nbstripout --verify notebooks/*.ipynb || \
	  { echo "A notebook holds outputs, as JupyterLab saves them: make format takes them out"; exit 1; }
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

# JupyterLab's own options: make lab LAB="--no-browser --port=8899"
lab: setup
	@$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements
	$(BIN)/jupyter lab --ServerApp.root_dir=. $(LAB) notebooks/explore.ipynb

doctor: setup
	$(BIN)/dsstudy doctor

cifar10 cifar100: setup
	$(BIN)/python -c "from torchvision import datasets; datasets.$(shell echo $@ | tr a-z A-Z)('data', download=True)"

# The exact versions that the tests ran with; edit pyproject.toml, then this, then make test.
lock: setup
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --extra dev --allow-unsafe --strip-extras --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv runs book/_build
