"""Workers return what one process would, report what they die of, and leave nobody behind."""

import multiprocessing
import os
import time

import pytest

from trqam.config.errors import UserError
from trqam.environments.processes import cores, in_processes


@pytest.fixture(autouse=True)
def nobody_left():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


def square(number):
    time.sleep(0.01 * (number % 3))
    return number**2, os.getpid()


def fail(number):
    if number == 2:
        raise UserError("two is too much")
    if number == 5:
        raise ValueError("five")
    if number == 8:
        os._exit(7)
    if number == 9:
        time.sleep(3600)
    return number


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_item_once_however_many_workers(workers):
    results = list(in_processes(square, range(7), workers))
    assert sorted(value for value, _ in results) == [n**2 for n in range(7)]
    assert (os.getpid() in {pid for _, pid in results}) == (workers == 1)
    assert list(in_processes(square, [], workers)) == []


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [([9, 2], UserError, "^two is too much$"), ([9, 5], RuntimeError, "ValueError: five"), ([8], UserError, "code 7")],
)
def test_failures_are_raised_here_and_end_all_workers(items, error, message):
    with pytest.raises(error, match=message):
        list(in_processes(fail, items, 2))


def test_workers_end_with_the_generator():
    made = in_processes(fail, [1, 9], 2)
    assert next(made) == 1
    made.close()


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= os.cpu_count()
