# make paper   everything from an empty folder to results/small/paper/paper.pdf and report.html
#   FROM=FILE   instead from an archive of `trqam archive`, without training: results/small-rebuilt/paper/
# make test    the tests
# make bench   how fast this machine trains, beside what is asked for: benchmarks/README.md says what the table means
# make status  what is done, running and waiting, until when, and what to do next
# make doctor  whether everything is here that a run needs; CLEAR=1 clears what killed processes left
#   CONFIG=FILE   of another scale, such as config/paper.yaml
# make chaos   kills, damaged files and refused writes, and a table of what came of them: docs/reliability.md
# They create .venv and install the pinned requirements first.

PYTHON ?= python3
CORES ?= all
ACTIVATE = . .venv/bin/activate &&

# Snakemake and LaTeX keep caches below HOME, which a container's user may not have.
ifneq ($(shell test -n "$$HOME" && mkdir -p "$${XDG_CACHE_HOME:-$$HOME/.cache}" 2>/dev/null && \
	test -w "$${XDG_CACHE_HOME:-$$HOME/.cache}" && echo there),there)
export HOME := $(CURDIR)/.snakemake
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

.PHONY: paper test bench status doctor chaos lint clean-venv

paper: .venv/installed
ifdef FROM
	$(ACTIVATE) python -m trqam rebuild "$(FROM)"
else
	$(ACTIVATE) snakemake --cores $(CORES) paper
endif

test: .venv/installed lint
	$(ACTIVATE) python -m pytest -n auto --dist loadfile

bench: .venv/installed
	$(ACTIVATE) python -m trqam bench

status: .venv/installed
	@$(ACTIVATE) python -m trqam $(if $(CONFIG),--config "$(CONFIG)") status

doctor: .venv/installed
	@$(ACTIVATE) python -m trqam $(if $(CONFIG),--config "$(CONFIG)") doctor $(if $(CLEAR),--clear)

chaos: .venv/installed
	$(ACTIVATE) python -m tests.chaos

lint: .venv/installed
	$(ACTIVATE) ruff check . && ruff format --check . && snakefmt --check workflow && snakemake --lint

# --no-build-isolation: the build tool comes from requirements.txt, nothing else is fetched.
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check -q -r requirements.txt
	.venv/bin/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

clean-venv:
	rm -rf .venv
