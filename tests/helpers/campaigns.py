"""What `make test` has of a long list of cases, the rest of which `make campaigns` runs."""

from collections.abc import Sequence

import pytest


def sampled(cases: Sequence, kept: int = 1) -> list:
    """The cases of a parametrisation: the first ``kept`` as they are, and the others marked as a campaign's."""
    others = (case if isinstance(case, tuple) else (case,) for case in cases[kept:])
    return [*cases[:kept], *(pytest.param(*case, marks=pytest.mark.campaign) for case in others)]
