"""The workflow on a real SLURM, an event of each kind befalling it."""

import pytest

from tests.slurm.campaign import campaign
from tests.slurm.cluster import missing
from tests.slurm.events import KINDS


@pytest.mark.campaign
@pytest.mark.skipif(bool(missing()), reason=f"SLURM is not installed: {', '.join(missing())}")
def test_nothing_is_lost_doubled_or_changed(tmp_path):
    lines, well = campaign(tmp_path, tasks=1, events=len(KINDS))
    assert well, "\n".join(lines)
