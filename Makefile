# make paper   everything from an empty folder to results/small/paper/paper.pdf and report.html
#   FROM=FILE   instead from an archive of `trqam archive`, without training: results/small-rebuilt/paper/
#   CORES=N     with so many cores (default: all)
# make test    the tests, in a few minutes; what needs a program that is not here is skipped, and the last lines say so
# make campaigns  many kills, damaged files, bad input and failures of a cluster; of most `make test` has a sample
#   PYTEST=WORDS  (test, campaigns) further options of pytest, such as "-k doctor"
# make bench   how fast this machine trains, beside what is asked for: benchmarks/README.md says what the table means
# make status  what is done, running and waiting, until when, and what to do next
# make doctor  whether everything is here that a run needs; CLEAR=1 clears what killed processes left
# make chaos   kills, damaged files and refused writes, and a table of what came of them: docs/reliability.md
# make install only .venv with the pinned packages, which the others (but status and doctor) make first if need be
#   CONFIG=FILE   (paper, bench, status, doctor) of another scale, such as config/paper.yaml
#   PYTHON=FILE   the Python to make .venv with, such as python3.12

CORES ?= all

# These change what is made: they count on the command line alone, not where another program has exported such a name.
$(foreach name,FROM CONFIG CLEAR,$(if $(filter environment,$(firstword $(origin $(name)))),$(eval override undefine $(name))))

# A word that nothing reads, or that is empty, would be obeyed by nobody: it is refused.
KNOWN = CONFIG CORES FROM CLEAR PYTHON PYTEST
GOALS = $(or $(MAKECMDGOALS),help)
written = $(filter command,$(firstword $(origin $(1))))
only = $(if $(call written,$(1)),$(if $(filter $(2),$(GOALS)),\
  $(if $($(1)),,$(error $(1)= is empty)),$(error $(1)= means nothing to make $(GOALS); only to: $(2))))
ifeq ($(MAKELEVEL),0)
$(foreach name,$(filter-out -% SHELL $(KNOWN),$(.VARIABLES)),$(if $(call written,$(name)),\
  $(error $(name)= means nothing here; these do: $(KNOWN))))
endif
$(call only,CONFIG,paper bench status doctor)
$(call only,CORES,paper)
$(call only,FROM,paper)
$(call only,CLEAR,doctor)
$(call only,PYTEST,test campaigns)
ifneq ($(filter paper,$(GOALS)),)
ifneq ($(shell echo "$(CORES)" | grep -Exc 'all|[1-9][0-9]*'),1)  # with none Snakemake would wait for ever
$(error CORES=$(CORES): write a number of cores from 1 on, or all)
endif
endif
ifneq ($(and $(FROM),$(CONFIG)),)
$(error FROM=$(FROM) carries its configuration: leave out CONFIG=$(CONFIG))
endif

# Found by PATH and not by scripts, whose first line says where .venv once was. The variables would bring other packages.
unexport PYTHONPATH PYTHONHOME
WITHIN = PATH="$$PWD/.venv/bin:$$PATH"
RUN = $(WITHIN) python -m

# Snakemake and LaTeX keep caches below HOME, which a container's user may not have.
ifneq ($(shell test -n "$$HOME" && mkdir -p "$${XDG_CACHE_HOME:-$$HOME/.cache}" 2>/dev/null && \
	test -w "$${XDG_CACHE_HOME:-$$HOME/.cache}" && echo there),there)
export HOME := $(CURDIR)/.snakemake
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

TRQAM = -m trqam $(if $(CONFIG),--config "$(CONFIG)")
INSTALL = "$(or $(PYTHON),python3)" workflow/install.py

.PHONY: help paper test campaigns bench status doctor chaos lint install configured

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

paper: configured install
ifdef FROM
	$(RUN) trqam rebuild "$(FROM)"
else
	$(RUN) snakemake --cores $(CORES) paper $(if $(CONFIG),--configfile "$(CONFIG)")
endif

test: install lint
	$(RUN) pytest -n auto --dist loadfile --no-loadscope-reorder -m "not campaign" $(PYTEST)

campaigns: install
	$(RUN) pytest -n auto --dist loadfile -m campaign $(PYTEST)

bench: configured install
	$(WITHIN) python $(TRQAM) bench

status: configured
	@$(INSTALL) --look && $(WITHIN) python $(TRQAM) status

doctor: configured  # begins with what Python alone can tell, so that it also answers where nothing is installed
	@$(INSTALL) --look; $(WITHIN) python3 $(TRQAM) doctor $(if $(CLEAR),--clear)

chaos: install
	$(RUN) tests.chaos

lint: install
	$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) snakefmt --check workflow && $(RUN) snakemake --lint && \
	  $(RUN) mypy

install:
	@"$(or $(PYTHON),python3)" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null || \
	  { echo "trqam: $(or $(PYTHON),python3) does not start or is too old; name another: make PYTHON=FILE" >&2; exit 1; }
	@$(INSTALL) $(if $(PYTHON),"$(PYTHON)")

configured:
ifdef CONFIG
	@test -f "$(CONFIG)" || \
	  { echo "trqam: CONFIG=$(CONFIG): no such file; name a scale file, such as config/paper.yaml" >&2; exit 2; }
endif
