"""The step that is launched again and again: it must read and write tensors that stay where they are."""

from contextlib import contextmanager

import pytest
import torch

from tests.helpers.learners import METHODS, make_batch, make_learner
from trqam.networks import capture
from trqam.networks.capture import WARM_UP, Call, launcher
from trqam.networks.replicas import assemble
from trqam.training.batches import draw_noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("name", METHODS)
def test_an_update_rebinds_no_tensor_of_the_state(name):
    agent, replicas = make_learner(name, seeds=[0, 1])
    state = assemble(replicas)
    places = lambda: {name: t.data_ptr() for name, t in [*state.named(), ("step", state.step)]}  # noqa: E731
    before = places()
    agent.update(state, make_batch(seeds=[0, 1]), draw_noise(agent, [0, 1], "noise", 1))
    assert places() == before


class Recorder:
    """Stands in for CUDA's streams and graphs: what is recorded does not happen until it is replayed."""

    def __init__(self, monkeypatch):
        self.recording, self.graphs, self.on_side = False, [], False
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda: self)
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))

    def wait_stream(self, other):
        assert not self.recording

    @contextmanager
    def stream(self, stream):
        self.on_side = True
        yield
        self.on_side = False

    @contextmanager
    def graph(self, graph):
        self.recording = graph
        yield
        self.recording = False

    def run(self, operation):
        """What a kernel would do, now or at every replay."""
        if self.recording:
            self.recording.operations.append(operation)
        else:
            operation()


class Graph:
    def __init__(self, recorder):
        self.operations = []
        recorder.graphs.append(self)

    def replay(self):
        for operation in self.operations:
            operation()


def test_every_call_of_a_captured_step_is_one_step(monkeypatch):
    recorder, done, sides = Recorder(monkeypatch), [], []

    def update():
        sides.append(recorder.on_side)
        recorder.run(lambda: done.append("update"))
        return {"loss": torch.zeros(1)}

    launch = launcher(update, tuple, lambda metrics: recorder.run(lambda: done.append(*metrics)), "captured", CUDA)
    for calls in range(1, WARM_UP + 5):
        launch()
        assert done == ["update", "loss"] * calls
    assert sides == [True] * WARM_UP + [False]  # run on a side stream, then recorded once
    assert len(recorder.graphs) == 1


def test_a_captured_call_gives_the_function_of_what_it_is_given(monkeypatch):
    recorder, result, ran = Recorder(monkeypatch), torch.zeros(2), []

    def doubled(x):
        ran.append(recorder.recording)
        recorder.run(lambda: torch.mul(x, 2, out=result))
        return result

    call = Call(doubled, "captured", CUDA)
    for number in range(WARM_UP + 4):
        given = torch.tensor([number, -1.0])
        assert call(given).tolist() == [2 * number, -2]
        given.zero_()  # what was given is no longer looked at
    assert len(ran) == WARM_UP + 1
    assert len(recorder.graphs) == 1


@pytest.mark.parametrize("name", ["behaviour_cloning", pytest.param("trqam", marks=pytest.mark.campaign)])
def test_an_update_compiled_for_a_gpu_is_the_eager_one(name, monkeypatch):
    """Traced by Dynamo and run by PyTorch's own kernels; Inductor's take a minute to build."""
    compiling = torch.compile
    monkeypatch.setattr(capture, "Captured", lambda step: step)
    monkeypatch.setattr(torch, "compile", lambda function: compiling(function, backend="eager"))
    batch, found = make_batch(seeds=[0, 1]), {}
    for kind in ("eager", "compiled"):
        agent, replicas = make_learner(name, seeds=[0, 1])
        state, given = assemble(replicas), {}
        launch = launcher(
            agent.update, lambda s=state, g=given: (s, batch, g["noise"]), lambda metrics: None, kind, CUDA
        )
        for step in range(2):
            given["noise"] = draw_noise(agent, [0, 1], "noise", step)
            launch()
        found[kind] = state
    for (name, eager), (_, compiled) in zip(found["eager"].named(), found["compiled"].named(), strict=True):
        torch.testing.assert_close(eager, compiled, rtol=1e-5, atol=1e-6, msg=name)
