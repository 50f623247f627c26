"""What the tests of the figures share."""

import matplotlib.pyplot as plt
import pytest

from trqam.report.selection import PAPER


@pytest.fixture
def style():
    """The paper's style, in which figures are drawn and not written; they are closed afterwards."""
    with plt.style.context(PAPER / "style.mplstyle"):
        yield
    plt.close("all")
