"""Shared set-up: one thread a process, and the tiny scale's data and cloned policies made once."""

import os
import resource
from contextlib import chdir, contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"  # a notebook's own is refused when matplotlib is imported

import pytest
import torch
from hypothesis import settings

from tests.helpers.episodes import shortened
from tests.helpers.illustrations import SMALLER
from trqam.config import load as config
from trqam.environments.processes import cores

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # another task may have the machine
settings.load_profile("untimed")
ROOT = Path(__file__).parent.parent
CAMPAIGN = 1200  # seconds that a test of a campaign may take


def pytest_xdist_auto_num_workers(config) -> int:
    """Of `-n auto`: one a core that the tests were given, four at most, since each makes the tiny scale anew."""
    return min(4, cores())


def pytest_addoption(parser) -> None:
    """`--skipped-to FILE` lists what was skipped, for `pytest @FILE` where more programs are installed."""
    parser.addoption("--skipped-to", type=Path, metavar="FILE", help="write the names of skipped tests to FILE")


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Writes that list."""
    if path := config.getoption("--skipped-to"):
        names = sorted({report.nodeid for report in terminalreporter.stats.get("skipped", ())})
        path.write_text("".join(f"{name}\n" for name in names))


def pytest_collection_modifyitems(config, items) -> None:
    """The folder that takes longest begins first, with its longest file, so that no worker is alone with it at the end.

    A test of a campaign may last beyond the limit in pyproject.toml.
    """
    items.sort(key=lambda item: (item.path.parent.name != "workflow", item.path.name != "test_workflow.py"))
    for item in items:
        if item.get_closest_marker("campaign") and config.getoption("timeout", None) is None:
            item.add_marker(pytest.mark.timeout(CAMPAIGN))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """The tiny scale's datasets, in a folder of the session: of several workers the first makes them."""
    from trqam.data.generate import generate

    shared = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent / "data" if shared else tmp_path_factory.mktemp("data")
    loaded = config.load(ROOT / "tests/tiny.yaml")
    for domain in loaded.task_domains:
        generate(domain, folder / domain, loaded.scale.transitions, loaded.scale.data_seed)
    return folder


@pytest.fixture(scope="session")
def users_folder(tmp_path_factory):
    """A user's folder in the middle of work (tests/bad/world.py), made once and copied for every case."""
    from tests.bad import world

    folder = tmp_path_factory.mktemp("world")
    with chdir(folder):
        world.build(folder)
    return folder


@pytest.fixture
def short_episodes():
    """Episodes of few steps in this process and its forks."""
    with shortened():
        yield


@pytest.fixture
def smaller(monkeypatch):
    """The illustrations, made small in this process."""
    from trqam.report import theory_figure, toy_figure

    for module, values in SMALLER.items():
        for name, value in values.items():
            monkeypatch.setattr(f"trqam.report.{module}.{name}", value)
    remembered = (theory_figure.measure, toy_figure.measure)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def small_files():
    """A function whose block sees a disk that takes no file beyond some bytes, as the kernel has it."""

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def load(tiny_data, tmp_path, monkeypatch):
    """A function that loads the tiny scale with changes, to be run in a folder of its own."""
    for name in ("config", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def load(**changes):
        return config.load("tests/tiny.yaml", {"data_dir": str(tiny_data), **changes})

    return load
