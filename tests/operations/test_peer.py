"""The update in JAX beside which `trqam bench --peer` measures this package's: that it is the same update."""

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.helpers.slow_reference import Slow
from tests.operations.test_bench import size
from trqam.agents import make_agent
from trqam.operations.bench.cases import Case, Same, Updates
from trqam.operations.bench.peer import MODE, Peer
from trqam.operations.golden.compare import relative_difference
from trqam.operations.golden.files import Golden

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[peer]'")
peer_jax = pytest.importorskip("benchmarks.peer_jax", exc_type=ModuleNotFoundError)

FOLDER = Path(__file__).parents[1] / "golden"


def networks(golden: Golden, group: str, copy: str) -> dict:
    """``group`` of a file ("step1/params") as the peer has it, of the "online" or "target" copy."""
    found: dict = {}
    for name, _ in golden.state.named():
        if name.startswith(f"{copy}/"):
            _, network, parameter = name.split("/")
            layer, _, kind = parameter.rpartition(".")
            found.setdefault(network, {}).setdefault(layer, {})[kind] = golden.parameter(group, name)
    order = {"mean": "98", "log_std": "99"}  # a Gaussian's heads are last
    return {
        network: [layers[i] for i in sorted(layers, key=lambda layer: order.get(layer, layer))]
        for network, layers in found.items()
    }


def one_replica(tensors: dict) -> dict:
    return {name: jax.numpy.asarray(tensor[0].numpy()) for name, tensor in tensors.items()}


def differences(ours, theirs) -> np.ndarray:
    return np.concatenate([np.abs(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)])


@pytest.mark.parametrize("name", peer_jax.TARGETS)
def test_ten_updates_are_the_reference_s(name, tmp_path):
    """The authors', where there is a file of theirs; of IFQL and DSRL that of the slow second implementation."""
    file = FOLDER / f"{name}_f32.npz"
    if not file.exists():
        Slow(name, lr=3e-4).write(file := tmp_path / "slow.npz")
    golden = Golden(file)
    run, dual = golden.agent.run, golden.state.dual
    start = (networks(golden, "init/params", copy) for copy in ("online", "target"))
    state = peer_jax.started(run, *start, dual.multiplier.item(), dual.kl_ema.item(), jax.random.key(0))
    found = {}
    if name in ("trqam", "qam"):
        batch, noise = one_replica(golden.batch(0)), one_replica(golden.noise(0))
        states, adjoints = peer_jax.adjoints(run, state, batch["observations"], noise)
        found |= {"step1/adj/xs": [states], "step1/adj/adjs": [adjoints]}
    if name not in ("ifql", "dsrl"):  # whose acting is no part of an update
        observations, chance = (golden.tensor(f"act/{key}")[0].numpy() for key in ("observations", "noise"))
        found["act/actions"] = [peer_jax.act(run, state.online, observations, chance[:, 0])]
    update = jax.jit(partial(peer_jax.update, run), donate_argnums=0)
    metrics = []
    for number in range(golden.updates):
        state, measured = update(state, one_replica(golden.batch(number)), one_replica(golden.noise(number)))
        metrics.append(
            {**measured, "multiplier": float(state.multiplier), "kl_ema": float(state.kl_ema)}
        )  # to be donated
        if number in (0, golden.updates - 1):
            for copy in ("online", "target"):
                difference = differences(getattr(state, copy), networks(golden, f"step{number + 1}/params", copy))
                assert np.quantile(difference, 0.999) < 5e-7
                assert difference.max() < 2e-5
    logged = {**golden.words.info, "traj/lam": "multiplier", "traj/kl_ema": "kl_ema"}
    for theirs, ours in logged.items():
        key = theirs if theirs.startswith("traj") else f"info/{theirs}"
        if key in golden.arrays:
            found[key] = [np.stack([sum(m[part] for part in ours.split("+")) for m in metrics])]
    found["info_extra/grad_global_norm"] = [np.stack([m["gradient_norm"] for m in metrics])]
    for quantity, (array,) in found.items():
        assert relative_difference([(np.asarray(array), golden.array(quantity))]) < 1e-4, quantity


@pytest.mark.parametrize("replicas", [1, 2])
def test_it_answers_as_updates_do(replicas):
    case = Case(size=size(hidden_width=8), replicas=replicas, mode=MODE)
    peer = Peer(case)
    peer("prepare")
    assert peer(1e-9).units >= 1
    facts = peer("facts")
    ours = Updates(msgspec.structs.replace(case, mode="eager"))
    ours("prepare")
    assert facts["flops"] == ours("facts")["flops"]
    assert facts["compiled"]["seconds"] > 0


def test_stacked_replicas_are_the_lone_ones_with_noise_of_their_own():
    case = size(hidden_width=8)
    run, chunk = case.run, case.run.horizon * case.action
    lone = [peer_jax.initial(run, case.observation, chunk, seed) for seed in (0, 1)]
    batch = {name: array[0] for name, array in Same(make_agent(run, case.observation, case.action), 1).batch(0).items()}
    step = jax.jit(partial(peer_jax.step, run))
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *lone)
    stacked, _ = jax.jit(jax.vmap(partial(peer_jax.step, run), (0, None)))(stacked, batch)
    for i, state in enumerate(lone):
        again, metrics = step(state, batch)
        assert differences(again.online, jax.tree.map(lambda leaf, i=i: leaf[i], stacked.online)).max() < 1e-5
        assert step(again, batch)[1]["flow_loss"] != metrics["flow_loss"]
        assert differences(again.online, state.online).max() > 0
