"""The ten domains of the paper give the same episodes in one process and in several, to the bit."""

import pytest

from benchmarks.evaluation import fingerprint, linear, paper
from tests.helpers.campaigns import sampled
from trqam.environments import ogbench_tasks
from trqam.environments.evaluator import Evaluator

FIRST = ["antmaze-large-navigate", "cube-double-play"]  # a walker and an arm
DOMAINS = [*FIRST, *(domain for domain in paper().task_domains if domain not in FIRST)]
ACTIONS = {"antmaze": 8, "humanoidmaze": 21}  # 5 with a manipulator


def evaluations(domain, workers, slots, steps=(0, 50)):
    """Short episodes, more than there are slots."""
    task = ogbench_tasks.task_name(domain, 1)
    horizon = paper().run(task, "trqam").horizon
    size = ACTIONS.get(domain.partition("-")[0], 5)
    with Evaluator(task, [7], slots + 1, slots, workers, horizon, size, max_steps=12) as evaluator:
        assert len(evaluator.fleet.pids) == workers
        return [fingerprint(evaluator, linear, step) for step in steps]


def test_there_are_ten():
    assert len(DOMAINS) == len(paper().task_domains) == 10


@pytest.mark.parametrize("domain", sampled(DOMAINS, len(FIRST)))
def test_two_workers_change_nothing(domain):
    alone = evaluations(domain, 0, slots=2)
    assert len(set(alone)) == 2  # other episodes at another step, so that equality says something
    assert evaluations(domain, 2, slots=2) == alone


@pytest.mark.campaign
def test_nor_do_any_number_of_them():
    alone = evaluations("humanoidmaze-medium-navigate", 0, slots=8)
    for workers in (1, 2, 4, 8):
        assert evaluations("humanoidmaze-medium-navigate", workers, slots=8) == alone
