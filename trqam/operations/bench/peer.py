"""The other side of `trqam bench --peer`: the same updates in JAX (`benchmarks/peer_jax.py`), asked as `Updates` are.

Several replicas are stacked by `jax.vmap` or updated one after another, whichever is quicker here. Noise is drawn
inside the compiled update; the batch, which stays, lies in JAX's memory from the start.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata, util
from typing import Any

from trqam.agents import make_agent
from trqam.config.errors import UserError
from trqam.operations.bench.cases import Case, Same, resident_peak, seconds_a_unit, timed
from trqam.operations.bench.flops import update_flops

MODE = "jax"  # of its cases
AGENTS = ("trqam", "qam", "fql", "ifql", "dsrl")
REPLICAS = (1, 3, 8)
LONG = ("paper", 8)  # left out unless it is asked for
CHOOSING = 0.5  # seconds of each way, before the turns


def refuse_missing() -> None:
    """A UserError where JAX or the peer's code is not here."""
    if util.find_spec("jax") is None:
        raise UserError("--peer: package jax: missing; pip install -e '.[peer]'")
    if util.find_spec("benchmarks") is None:
        raise UserError("--peer: no benchmarks/peer_jax.py; run python -m trqam from the root of a checkout")


@contextmanager
def one_core() -> Iterator[None]:
    """All processes that are started meanwhile share one core, where the system can say so: no thread helps either."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if allowed:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)


@dataclass
class Peer:
    """Answers the messages of `Updates`; "facts" has "compiled" too."""

    case: Case
    _parts: dict[str, Any] = field(default_factory=dict)

    def __call__(self, message: float | str) -> Any:
        """See above."""
        if message == "prepare":
            return self._prepare()
        return self._parts["facts"] if message == "facts" else timed(self._parts["update"], float(message), "cpu")

    def _prepare(self) -> None:
        from benchmarks import peer_jax  # sets JAX up, so before it
        import jax  # isort: skip

        size, replicas = self.case.size, range(self.case.replicas)
        agent = make_agent(size.run, size.observation, size.action)
        rows, step = Same(agent, len(replicas)).batch(0), partial(peer_jax.step, size.run)
        states = [peer_jax.initial(size.run, size.observation, agent.chunk_size, seed) for seed in replicas]
        batches = [{name: jax.numpy.asarray(array[i]) for name, array in rows.items()} for i in replicas]
        stack = partial(jax.tree.map, lambda *leaves: jax.numpy.stack(leaves))
        ways = {"stacked": (jax.vmap(step), [stack(*states)], [stack(*batches)])} if len(replicas) > 1 else {}
        ways["one after another"] = (step, states, batches)
        tried = []
        for name, way in ways.items():
            begun = time.process_time()
            update = _compiled(*way)
            seconds = time.process_time() - begun
            update()
            tried.append((seconds_a_unit(timed(update, CHOOSING, "cpu"), "cpu"), name, seconds, update))
        _, name, seconds, update = min(tried)
        flops = len(replicas) * (update_flops(agent) or 0)
        facts = {"peak": resident_peak(), "operators": 0, "flops": flops, "multiplied": flops}  # XLA fuses operators
        compiled = {"version": metadata.version("jax"), "way": name, "seconds": seconds}
        self._parts = {"update": update, "facts": {**facts, "compiled": compiled}}


def _compiled(step: Callable, states: list, batches: list) -> Callable[[], float]:
    """One update of each state, by one executable that takes over the state's memory."""
    import jax

    run = jax.jit(step, donate_argnums=0).lower(states[0], batches[0]).compile()

    def update() -> float:
        for i, batch in enumerate(batches):
            states[i], _ = run(states[i], batch)
        jax.block_until_ready(states)
        return 1

    return update
