"""The step that is launched again and again: it must read and write tensors that stay where they are."""

import pytest

from tests.learners import METHODS, SIZES, make_batch, make_learner
from trqam.replicas import assemble


@pytest.mark.parametrize("name", METHODS)
def test_an_update_rebinds_no_tensor_of_the_state(name):
    agent, replicas = make_learner(name, seeds=[0, 1])
    state = assemble(replicas)
    places = lambda: {name: t.data_ptr() for name, t in [*state.named(), ("step", state.step)]}  # noqa: E731
    before = places()
    agent.update(state, make_batch(seeds=[0, 1]), agent.draw_noise([0, 1], "noise", 1, SIZES.batch))
    assert places() == before
