"""One update of TRQAM, QAM, FQL, IFQL and DSRL in JAX, as somebody would write it who has JAX and not this package.

`python -m trqam bench --peer` measures this package beside it, and `tests/operations/test_peer.py` holds it against
the reference numbers that the package itself is held against. Written from the equations (TRQAM arXiv 2605.27079,
Adjoint Matching 2409.08861, FQL 2502.02538, IQL 2110.06169, DSRL 2506.15799); of `trqam` it reads the configuration
alone, a `Run`.

Everything is of one replica: observations s [B, O], action chunks [B, D] with D = H A, flow time t in [0, 1]. A
network is a list of layers, an ensemble's have a leading axis of members; a Gaussian policy's last two are its heads,
mean and log std. `step` is meant for `jax.jit` with the state donated, and `jax.vmap` of it for several replicas.
"""

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

# One thread of the CPU, whatever else is here; read when JAX is imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()

import jax
import jax.numpy as jnp
from jax import Array

from trqam.config.load import Run, agent_parameters

Arrays = dict[str, Array]
Network = list[Arrays]  # of each layer: weight and bias, and scale and shift where it is normalised

TARGETS = {  # of each method
    "trqam": ("critic", "base"),
    "qam": ("critic", "base"),
    "fql": ("critic",),
    "ifql": ("critic",),
    "dsrl": ("critic", "base"),
}
CLIPS = ("trqam", "qam")  # the gradient, to norm 1
EPSILON = 1e-6  # of LayerNorm
RATES, ADAM_EPSILON = (0.9, 0.999), 1e-8


class State(NamedTuple):
    """What a replica remembers; networks by name."""

    online: dict[str, Network]
    target: dict[str, Network]
    first: dict[str, Network]  # Adam's moments
    second: dict[str, Network]
    count: Array  # of updates
    multiplier: Array
    kl_ema: Array
    key: Array  # of the noise


def initial(run: Run, observation: int, size: int, seed: int) -> State:
    """Xavier-uniform weights, zero biases; ``size`` is D."""
    key, *keys = jax.random.split(jax.random.key(seed), 6)
    hidden, layer_norm = (run.hidden_width,) * run.hidden_layers, run.actor_layer_norm
    field = (observation + size + 1, *hidden, size)
    critics = jax.vmap(lambda key: network(key, (observation + size, *hidden, 1), True))
    online = {"critic": critics(jax.random.split(keys[0], run.critics)), "base": network(keys[1], field, layer_norm)}
    if run.agent == "fql":
        online["one_step"] = network(keys[2], (observation + size, *hidden, size), layer_norm)
    elif run.agent == "ifql":
        online["value"] = network(keys[2], (observation, *hidden, 1), True)
    elif run.agent == "dsrl":
        online["noise_critic"] = critics(jax.random.split(keys[2], run.critics))
        log_std = network(keys[4], (observation, *hidden, size), False)[-1]
        online["noise_policy"] = [*network(keys[3], (observation, *hidden, size), False), log_std]
        online["temperature"] = [{"log": jnp.zeros(1)}]
    else:
        online["finetuned"] = network(keys[2], field, layer_norm)
    multiplier = getattr(hyper_parameters(run), "initial_multiplier", 1.0)
    return started(run, online, {name: online[name] for name in TARGETS[run.agent]}, multiplier, 0.0, key)


def network(key: Array, sizes: tuple[int, ...], layer_norm: bool) -> Network:
    """A network before training."""
    layers = []
    for i, (n, m) in enumerate(pairwise(sizes)):
        draw = jax.nn.initializers.glorot_uniform()(jax.random.fold_in(key, i), (n, m))
        layers.append({"weight": draw, "bias": jnp.zeros(m)})
        if layer_norm and i < len(sizes) - 2:
            layers[-1] |= {"scale": jnp.ones(m), "shift": jnp.zeros(m)}
    return layers


def hyper_parameters(run: Run) -> Any:
    """Those of the method, each an attribute."""
    return agent_parameters(run.agent, run.parameters, {}, run.method)


def started(run: Run, online: Any, target: Any, multiplier: float, kl_ema: float, key: Array) -> State:
    """The state before the first update; copies, since what is donated must not be shared."""
    online, target = jax.tree.map(jnp.array, (online, target))
    first, second = (jax.tree.map(jnp.zeros_like, online) for _ in RATES)
    step, multiplier, kl_ema = map(jnp.float32, (0, multiplier, kl_ema))
    return State(online, target, first, second, step, multiplier, kl_ema, key)


def forward(layers: Network, x: Array) -> Array:
    """Dense, GELU (tanh form), LayerNorm where there is one; the last layer bare."""
    return dense(layers[-1], body(layers[:-1], x))


def dense(layer: Arrays, x: Array) -> Array:
    """A bare layer."""
    return x @ layer["weight"] + layer["bias"]


def body(layers: Network, x: Array) -> Array:
    """The layers before the last."""
    for layer in layers:
        x = jax.nn.gelu(x @ layer["weight"] + layer["bias"], approximate=True)
        if "scale" in layer:
            x = jax.nn.standardize(x, axis=-1, epsilon=EPSILON) * layer["scale"] + layer["shift"]
    return x


def velocity(layers: Network, s: Array, x: Array, t: Array | float) -> Array:
    """v(s, x, t) [B, D], for t [B, 1] or a number."""
    return forward(layers, jnp.concatenate([s, x, jnp.broadcast_to(t, (len(x), 1))], -1))


def values(critics: Network, s: Array, a: Array) -> Array:
    """Q_k(s, a) [members, B]."""
    return jax.vmap(forward, (0, None))(critics, jnp.concatenate([s, a], -1))[..., 0]


def flow_action(layers: Network, s: Array, x: Array, steps: int) -> Array:
    """Euler's end point of the flow from noise x, clipped."""
    for i in range(steps):
        x = x + velocity(layers, s, x, i / steps) / steps
    return jnp.clip(x, -1, 1)


def act(run: Run, online: dict[str, Network], s: Array, noise: Array) -> Array:
    """The policy's actions [B, D]."""
    if run.agent == "fql":
        return jnp.clip(forward(online["one_step"], jnp.concatenate([s, noise], -1)), -1, 1)
    return flow_action(online["finetuned"], s, noise, run.flow_steps)


def steer(run: Run, policy: Network, s: Array, noise: Array) -> tuple[Array, Array]:
    """DSRL's: the noise [B, D] that the flow starts from, and the log-density [B] of the tanh-Gaussian behind it."""
    x = body(policy[:-2], s)
    mean, log_std = dense(policy[-2], x), jnp.clip(dense(policy[-1], x), -20, 2)
    u = mean + jnp.exp(log_std) * noise
    log_normal = -(noise**2) / 2 - log_std - jnp.log(2 * jnp.pi) / 2
    log_slope = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
    return hyper_parameters(run).noise_scale * jnp.tanh(u), (log_normal - log_slope).sum(-1)


def pessimistic(run: Run, q: Array) -> Array:
    """One value [B] of an ensemble's [members, B]."""
    return q.mean(0) - run.pessimism * q.std(0)


def td_target(run: Run, state: State, batch: Arrays, noise: Arrays) -> Array:
    """y [B] of the critics' regression."""
    s = batch["next_observations"]
    if run.agent == "ifql":
        following = forward(state.online["value"], s)[:, 0]
    elif run.agent == "dsrl":
        latent, _ = steer(run, state.online["noise_policy"], s, noise["next_action_noise"])
        actions = flow_action(state.target["base"], s, latent, run.flow_steps)
        following = pessimistic(run, values(state.target["critic"], s, actions))
    else:
        actions = act(run, state.online, s, noise["next_action_noise"])
        following = pessimistic(run, values(state.target["critic"], s, actions))
    return run.reward_scale * batch["rewards"] + run.discount**run.horizon * batch["masks"] * following


def flow_loss(base: Network, batch: Arrays, noise: Arrays) -> Array:
    """L_BC."""
    x0, x1, t = noise["bc_x0"], batch["actions"], noise["bc_t"]
    error = velocity(base, batch["observations"], (1 - t) * x0 + t * x1, t) - (x1 - x0)
    return (batch["valid"] * jnp.square(error).mean(-1)).mean()


def schedule(steps: int) -> tuple[Array, Array]:
    """Times t_i = i h [K] and diffusions g_i [K]."""
    h, t = 1 / steps, jnp.arange(steps) / steps
    return t, jnp.sqrt(2 * (1 - t + h) / (t + h))


def adjoints(run: Run, state: State, s: Array, noise: Arrays) -> tuple[Array, Array]:
    """States X_0 .. X_{K-1} of a memoryless path, and their lean adjoints, [K, B, D] each."""
    p, h = hyper_parameters(run), 1 / run.flow_steps
    base, finetuned, critics = state.target["base"], state.online["finetuned"], state.target["critic"]
    t, g = schedule(run.flow_steps)
    states = [noise["adj_x0"]]
    for i in range(run.flow_steps - 1):
        x = states[-1]
        drift = 2 * velocity(finetuned, s, x, t[i]) - x / (t[i] + h)
        states.append(x + h * drift + jnp.sqrt(h) * g[i] * noise["adj_eps"][i])
    end = states[-1] + h * velocity(base, s, states[-1], t[-1])

    def value(x: Array) -> Array:
        return values(critics, s, jnp.clip(x, -1, 1) if p.clip_adjoint else x).mean(0).sum()

    adjoint = -(p.inverse_temperature if run.agent == "qam" else 1.0) * jax.grad(value)(end)
    found = []
    for i in reversed(range(run.flow_steps)):
        later = t[i] + h
        pull = jax.vjp(lambda x, t=later: 2 * velocity(base, s, x, t) - x / t, states[i])[1]
        adjoint = adjoint + h * pull(adjoint)[0]
        found.append(adjoint)
    return jnp.stack(states), jnp.stack(found[::-1])


def adjoint_matching(run: Run, online: Any, state: State, batch: Arrays, noise: Arrays) -> tuple[Array, Arrays]:
    """L_AM, whose gradient goes through the fine-tuned field of ``online`` alone, and the path KL."""
    s, h = batch["observations"], 1 / run.flow_steps
    states, adjoint = jax.lax.stop_gradient(adjoints(run, state, s, noise))
    t, g = schedule(run.flow_steps)
    along = jax.vmap(velocity, (None, None, 0, 0))
    dv = along(online["finetuned"], s, states, t) - along(state.target["base"], s, states, t)
    scale = 1.0
    if run.agent == "trqam":
        p = hyper_parameters(run)
        scale = jnp.sqrt(jnp.maximum(p.multiplier_scale * state.multiplier, 1e-8))
    sigma, g = (g / scale)[:, None, None], g[:, None, None]
    loss = jnp.square(2 / sigma * dv + sigma * adjoint).sum((0, 2)).mean()
    kl = (2 * h / g**2 * jnp.square(dv)).sum((0, 2)).mean() / run.horizon
    return loss, {"adjoint_loss": loss, "path_kl": kl}


def one_step(run: Run, online: Any, state: State, batch: Arrays, noise: Arrays) -> tuple[Array, Arrays]:
    """FQL's distillation and ascent, whose gradient goes through the one-step policy of ``online`` alone."""
    s, z = batch["observations"], noise["distill_noise"]
    actions = forward(online["one_step"], jnp.concatenate([s, z], -1))
    distill = jnp.square(actions - flow_action(state.online["base"], s, z, run.flow_steps)).mean()
    q = values(state.online["critic"], s, jnp.clip(actions, -1, 1)).mean()
    weight = hyper_parameters(run).distillation
    return weight * distill - q, {"actor_loss": weight * distill - q, "distill_loss": distill}


def expectile(run: Run, online: Any, state: State, batch: Arrays, noise: Arrays) -> tuple[Array, Arrays]:
    """IFQL's regression of V."""
    s, kappa = batch["observations"], hyper_parameters(run).expectile
    q = pessimistic(run, values(state.target["critic"], s, batch["actions"]))
    u = q - forward(online["value"], s)[:, 0]
    loss = (jnp.abs(kappa - (u < 0)) * u**2).mean()
    return loss, {"value_loss": loss}


def steering(run: Run, online: Any, state: State, batch: Arrays, noise: Arrays) -> tuple[Array, Arrays]:
    """DSRL's distillation of the critic on noise, its actor and its temperature."""
    s, z, p = batch["observations"], noise["distill_noise"], hyper_parameters(run)
    q = values(state.online["critic"], s, flow_action(state.target["base"], s, z, run.flow_steps))
    distill = jnp.square(values(online["noise_critic"], s, z) - q).mean()
    latent, log_prob = steer(run, online["noise_policy"], s, noise["latent_eps"])
    alpha = jnp.exp(online["temperature"][0]["log"][0])
    held, entropy = jax.lax.stop_gradient((alpha, -log_prob.mean()))
    actor = held * log_prob.mean() - values(state.online["noise_critic"], s, latent).mean()
    target = p.entropy_per_dimension * z.shape[-1]
    metrics = {"actor_loss": actor, "distill_loss": distill, "entropy": entropy, "temperature": alpha}
    return distill + actor + alpha * (entropy - target), metrics


OWN = {
    "trqam": adjoint_matching,
    "qam": adjoint_matching,
    "fql": one_step,
    "ifql": expectile,
    "dsrl": steering,
}  # what each method adds to L_Q + L_BC


def losses(online: Any, run: Run, state: State, batch: Arrays, noise: Arrays) -> tuple[Array, Arrays]:
    """L_Q + L_BC + the method's own; what is not ``online`` is constant."""
    q = values(online["critic"], batch["observations"], batch["actions"])
    critic = (batch["valid"] * jnp.square(q - td_target(run, state, batch, noise))).mean()
    flow = flow_loss(online["base"], batch, noise)
    policy, metrics = OWN[run.agent](run, online, state, batch, noise)
    metrics |= {"critic_loss": critic, "flow_loss": flow, "q_mean": q.mean(), "q_min": q.min(), "q_max": q.max()}
    return critic + flow + policy, metrics


def update(run: Run, state: State, batch: Arrays, noise: Arrays) -> tuple[State, Arrays]:
    """One step of Adam on everything together, of the targets, and of the multiplier; and metrics."""
    (loss, metrics), gradient = jax.value_and_grad(losses, has_aux=True)(state.online, run, state, batch, noise)
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    if run.agent in CLIPS:
        gradient = jax.tree.map(lambda g: jnp.where(norm < 1, g, g / norm), gradient)
    count, (rate1, rate2) = state.count + 1, RATES
    first = jax.tree.map(lambda m, g: rate1 * m + (1 - rate1) * g, state.first, gradient)
    second = jax.tree.map(lambda v, g: rate2 * v + (1 - rate2) * g**2, state.second, gradient)

    def moved(p: Array, m: Array, v: Array) -> Array:
        return p - run.learning_rate * m / (1 - rate1**count) / (jnp.sqrt(v / (1 - rate2**count)) + ADAM_EPSILON)

    def averaged(bar: Array, p: Array) -> Array:  # towards the parameters before this step
        return run.target_rate * p + (1 - run.target_rate) * bar

    new = state._replace(
        online=jax.tree.map(moved, state.online, first, second),
        target=jax.tree.map(averaged, state.target, {name: state.online[name] for name in state.target}),
        first=first,
        second=second,
        count=count,
    )
    if run.agent == "trqam":
        new = dual_step(run, new, metrics["path_kl"])
    return new, metrics | {"loss": loss, "gradient_norm": norm}


def dual_step(run: Run, state: State, kl: Array) -> State:
    """Projected dual descent of the multiplier."""
    p = hyper_parameters(run)
    kl_ema = (1 - p.kl_ema_rate) * state.kl_ema + p.kl_ema_rate * jnp.minimum(kl, p.kl_clip * p.kl_budget)
    moved = state.multiplier + p.dual_rate * (kl_ema - p.kl_budget)
    return state._replace(multiplier=jnp.clip(moved, p.multiplier_min, p.multiplier_max), kl_ema=kl_ema)


def draw(run: Run, key: Array, batch: int, size: int) -> Arrays:
    """The noise of one update: flow times ("_t") uniform, all else normal."""
    chunk = (batch, size)
    shapes: dict[str, tuple[int, ...]] = {"bc_x0": chunk, "bc_t": (batch, 1)}
    if run.agent != "ifql":
        shapes["next_action_noise"] = chunk
    if run.agent in ("fql", "dsrl"):
        shapes["distill_noise"] = chunk
    if run.agent == "dsrl":
        shapes["latent_eps"] = chunk
    if run.agent in ("trqam", "qam"):
        shapes |= {"adj_x0": chunk, "adj_eps": (run.flow_steps, *chunk)}
    kinds: dict[bool, Callable[..., Array]] = {True: jax.random.uniform, False: jax.random.normal}
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {name: kinds[name.endswith("_t")](keys[name], shape) for name, shape in shapes.items()}


def step(run: Run, state: State, batch: Arrays) -> tuple[State, Arrays]:
    """An update with noise of its own."""
    key, now = jax.random.split(state.key)
    return update(run, state._replace(key=key), batch, draw(run, now, *batch["actions"].shape))
