# One door: CI, README and people call the same targets.
PYTHON ?= python3
BIN := .venv/bin
export SDL_VIDEODRIVER ?= dummy

.PHONY: setup demo test torture check format benchmark-pendulum benchmark-family benchmark-balls benchmark-any-env benchmark-foreign benchmark-data benchmark-recorded benchmark-online benchmark-empowerment benchmark-sb3 benchmark-speed benchmark-play benchmark-trust benchmark-dreamt benchmark-rssm benchmark-software-sensor software-sensor bundled test-gpu benchmark-bigger benchmark-asked soak matrix clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/worldmodel demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

# An hour at most (make torture INPUTS=1000000 drives that many through the doors), without the checker of types, which would refuse what users can do.
torture: setup
	TORTURE=40 TORTURE_INPUTS=$(INPUTS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -o addopts='-q --strict-markers' --timeout=3600 tests/torture

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark-pendulum: setup
	$(BIN)/python benchmarks/pendulum.py

benchmark-family: setup
	$(BIN)/python benchmarks/family.py

benchmark-balls: setup
	$(BIN)/python benchmarks/balls.py

benchmark-any-env: setup
	$(BIN)/python benchmarks/any_env.py

benchmark-foreign: setup
	$(BIN)/python benchmarks/foreign.py

benchmark-data: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[benchmark-data]'
	$(BIN)/python benchmarks/data.py

benchmark-recorded: setup
	$(BIN)/python benchmarks/recorded.py

benchmark-online: setup
	$(BIN)/python benchmarks/online.py

benchmark-empowerment: setup
	$(BIN)/python benchmarks/empowerment.py

benchmark-sb3: setup
	$(BIN)/python benchmarks/sb3.py

benchmark-speed: setup
	$(BIN)/python benchmarks/speed.py

benchmark-play: setup
	$(BIN)/python benchmarks/play.py

software-sensor: setup
	$(BIN)/python examples/software_sensor/software_sensor.py

benchmark-software-sensor: setup
	$(BIN)/python benchmarks/sensor.py

bundled: setup
	$(BIN)/python benchmarks/bundle.py

# Where there is a GPU; elsewhere all are skipped.
test-gpu: setup
	$(BIN)/python -m pytest -m gpu

benchmark-bigger: setup
	$(BIN)/python benchmarks/bigger.py

clean:
	rm -rf .venv runs build *.egg-info

benchmark-trust: setup
	$(BIN)/python benchmarks/trust.py

benchmark-dreamt: setup
	$(BIN)/python benchmarks/dreamt.py

benchmark-rssm: setup
	$(BIN)/python benchmarks/rssm.py

benchmark-asked: setup
	$(BIN)/python benchmarks/asked.py

# A hundred million dream steps and a hundred thousand updates, and what they do to memory.
soak: setup
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/torture/soak.py

# The oldest versions that pyproject.toml allows, and the newest with each Python, each in an environment of its own. In parts:
# make matrix MATRIX="--rows oldest --again --hold torch==2.13.0+cpu --find-links /wheels tests/spaces"
matrix:
	$(PYTHON) tests/matrix.py $(MATRIX)
