"""A second implementation of every method, as slow and plain as the text it is written from: one sample, one critic and
one Euler step at a time, no replicas, no batching, full Jacobians. It names things as the authors' JAX code does and
writes files of the golden format, for the agents and switches of which there is no file of theirs.
"""

import itertools
import json
import math

import numpy as np
import torch

OBS, ACT, H, B, UPDATES = 3, 2, 2, 4, 10
COMMON = {
    "action_chunking": True,
    "action_dim": ACT,
    "actor_hidden_dims": [6, 5],
    "actor_layer_norm": False,
    "batch_size": B,
    "discount": 0.9,
    "flow_steps": 3,
    "horizon_length": H,
    "lr": 0.01,
    "num_qs": 3,
    "ob_dims": [OBS],
    "rho": 0.5,
    "tau": 0.1,
    "value_hidden_dims": [7],
    "value_layer_norm": True,
}
ADJOINT = {"best_of_n": 1, "clip_adj": True, "clip_grad": True, "target_actor": True, "use_target_grad": True}
TRUST = {"kl_budget": 1.0, "eta_lambda": 0.05, "kl_ema_coef": 0.1, "kl_clip_coef": 2.0, "lam_scale": 3.0}
TRUST |= {"lambda_min": 0.01, "lambda_max": 100.0}
QAM = {"inv_temp": 0.7, "edit_scale": 0.0, "fql_alpha": 0.0, "residual": False}
CONFIGS = {
    "trqam": {**COMMON, **ADJOINT, **TRUST},
    "qam": {**COMMON, **ADJOINT, **QAM},
    "fql": {**COMMON, "best_of_n": 1, "alpha": 3.0},
    "cgql": {**COMMON, "best_of_n": 1, "mode": "linex", "noisy_coef": 0.3, "inv_temp": 2.0, "guidance_coef": 0.4}
    | {"isd_clip": 1.0, "separate": False, "target_guidance": True},
    "dsrl": {**COMMON, "best_of_n": 1, "noise_scale": 1.3, "use_target_latent": True},
    "ifql": {**COMMON, "kappa": 0.8, "num_samples": 4},
}
FIELD_OF = {
    "trqam": "actor_slow",
    "qam": "actor_slow",
    "fql": "actor_bc_flow",
    "cgql": "actor",
    "dsrl": "actor_bc_flow",
}
FIELD_OF |= {"ifql": "actor_flow"}


class Slow:
    """One learner; ``p`` are its parameters by the reference's names, targets included."""

    def __init__(self, agent, seed=0, **changes):
        self.agent, self.rng = agent, np.random.default_rng(seed)
        self.c = c = {"agent_name": agent, **CONFIGS[agent], **changes}
        self.K, self.E = c["flow_steps"], c["num_qs"]
        self.chunk = H if c["action_chunking"] else 1
        self.D = ACT * self.chunk
        self.editing = c.get("edit_scale", 0) > 0
        self.entropy_target = -0.4 * self.D
        if agent in ("qam", "dsrl"):
            c["target_entropy" if agent == "dsrl" else "edit_target_entropy"] = self.entropy_target
        self.lam, self.kl_ema = 1.0, 0.0
        self.p = self.initial()
        self.mu = {k: torch.zeros_like(v) for k, v in self.p.items()}
        self.nu = {k: torch.zeros_like(v) for k, v in self.p.items()}
        self.steps = 0

    # Networks

    def initial(self):
        c, D, p = self.c, self.D, {}
        actor, value = c["actor_hidden_dims"], c["value_hidden_dims"]

        def add(module, body, sizes, norm=False, members=None):
            lead = () if members is None else (members,)
            for i, (n, m) in enumerate(itertools.pairwise(sizes)):
                p[f"modules_{module}/{body}/Dense_{i}/kernel"] = self.normal(*lead, n, m) * 1.2 / n**0.5
                p[f"modules_{module}/{body}/Dense_{i}/bias"] = 0.1 * self.normal(*lead, m)
                if norm and i < len(sizes) - 2:
                    p[f"modules_{module}/{body}/LayerNorm_{i}/scale"] = 1 + 0.1 * self.normal(*lead, m)
                    p[f"modules_{module}/{body}/LayerNorm_{i}/bias"] = 0.1 * self.normal(*lead, m)

        def gaussian(module, size):
            add(module, "MLP_0", [size, *actor])
            for head in ("OutputDenseMean", "OutputDenseLogStd"):
                p[f"modules_{module}/{head}/kernel"] = self.normal(actor[-1], D) * 0.5
                p[f"modules_{module}/{head}/bias"] = 0.1 * self.normal(D)

        timed = self.agent == "cgql"
        critic = [OBS + D + timed, *value, 1]
        add("critic", "mlp" if timed else "value_net", critic, c["value_layer_norm"], self.E)
        fields = ["actor_slow", "actor_fast"] if self.agent in ("qam", "trqam") else [FIELD_OF[self.agent]]
        for module in fields:
            add(module, "mlp", [OBS + D + 1, *actor, D], c["actor_layer_norm"])
        if self.agent == "fql":
            add("actor_onestep_flow", "mlp", [OBS + D, *actor, D], c["actor_layer_norm"])
        if self.agent == "ifql":
            add("value", "value_net", [OBS, *value, 1], c["value_layer_norm"])
        if self.agent == "dsrl":
            add("z_critic", "value_net", critic, c["value_layer_norm"], self.E)
            gaussian("actor", OBS)
            p["modules_alpha/log_value"] = torch.tensor(-0.3).double()
        if self.editing:
            gaussian("edit_actor", OBS + D)
            p["modules_edit_alpha/log_value"] = torch.tensor(0.2).double()
        self.targets = ["critic"] + ([] if self.agent in ("fql", "ifql") else [FIELD_OF[self.agent]])
        for module in self.targets:
            for name in [k for k in p if k.startswith(f"modules_{module}/")]:
                p[name.replace("modules_", "modules_target_")] = p[name] + 0.03 * self.normal(*p[name].shape)
        return p

    def normal(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    @staticmethod
    def dense(p, path, x, member):
        kernel, bias = p[f"{path}/kernel"], p[f"{path}/bias"]
        if member is not None:
            kernel, bias = kernel[member], bias[member]
        return torch.stack([(x * kernel[:, j]).sum() for j in range(kernel.shape[1])]) + bias

    def net(self, p, module, x, member=None, last_bare=True):
        body = next(k for k in p if k.startswith(f"modules_{module}/") and "Dense_0/" in k).split("/Dense_0")[0]
        count = sum(k.startswith(f"{body}/Dense_") and k.endswith("kernel") for k in p)
        for i in range(count):
            x = self.dense(p, f"{body}/Dense_{i}", x, member)
            if last_bare and i == count - 1:
                return x
            x = 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))
            if f"{body}/LayerNorm_{i}/scale" in p:
                scale, shift = p[f"{body}/LayerNorm_{i}/scale"], p[f"{body}/LayerNorm_{i}/bias"]
                if member is not None:
                    scale, shift = scale[member], shift[member]
                x = (x - x.mean()) / (((x - x.mean()) ** 2).mean() + 1e-6) ** 0.5 * scale + shift
        return x

    def v(self, p, module, s, x, t):
        return self.net(p, module, torch.cat([s, x, torch.as_tensor([t], dtype=s.dtype)]))

    def q(self, p, module, s, a, t=1.0):
        x = torch.cat([s, a] + ([torch.as_tensor([t], dtype=s.dtype)] if self.agent == "cgql" else []))
        return torch.stack([self.net(p, module, x, k)[0] for k in range(self.E)])

    def gaussian(self, p, module, x, eps):
        body = self.net(p, module, x, last_bare=False)
        mean = self.dense(p, f"modules_{module}/OutputDenseMean", body, None)
        std = self.dense(p, f"modules_{module}/OutputDenseLogStd", body, None).clip(-20, 2).exp()
        u = mean + std * eps
        density = torch.distributions.Normal(mean, std).log_prob(u) + 2 * torch.log(torch.cosh(u))
        return torch.tanh(u), density.sum()

    # Acting

    def ode(self, p, module, s, x):
        for i in range(self.K):
            x = x + self.v(p, module, s, x, i / self.K) / self.K
        return x

    def score(self, p, s, x, t):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.q(p, "critic", s, x, t).mean(), x)[0]

    def proposal(self, p, s, noise, edit):
        c = self.c
        if self.agent == "fql":
            return self.net(p, "actor_onestep_flow", torch.cat([s, noise])).clip(-1, 1)
        if self.agent == "ifql":
            return self.ode(p, "actor_flow", s, noise).clip(-1, 1)
        if self.agent == "dsrl":
            w = c["noise_scale"] * self.gaussian(p, "actor", s, noise)[0].clip(-1, 1)
            return self.ode(p, self.steered, s, w).clip(-1, 1)
        if self.agent == "cgql":
            x = noise
            for i in range(self.K):
                t = i / self.K
                v = self.v(p, "target_actor" if c["target_guidance"] else "actor", s, x, t)
                if i > 0:
                    v = v + (self.score(p, s, x, t) * (1 - t) * c["inv_temp"] + x) * c["guidance_coef"] / t
                x = x + v / self.K
            return x.clip(-1, 1)
        action = self.ode(p, "actor_fast", s, noise).clip(-1, 1)
        if self.editing:
            action = action + c["edit_scale"] * self.gaussian(p, "edit_actor", torch.cat([s, action]), edit)[0]
        return action.clip(-1, 1)

    @property
    def steered(self):
        return "target_actor_bc_flow" if self.c["use_target_latent"] else "actor_bc_flow"

    def act(self, p, s, noise, edit):
        """The best of the proposals, one a row of ``noise``."""
        with torch.no_grad():
            found = [self.proposal(p, s, z, None if edit is None else edit[i]) for i, z in enumerate(noise)]
            values = [self.q(p, "critic", s, a) for a in found]
            values = [float(q.min() if self.agent == "ifql" else q.mean()) for q in values]
            return found[values.index(max(values))]

    # Losses: ``p`` carries gradient, ``o`` are the stored values

    def pessimistic(self, q):
        return q.mean() - self.c["rho"] * ((q - q.mean()) ** 2).mean() ** 0.5

    def loss(self, p, o, b, n):
        c, info, total = self.c, {}, 0.0
        field, targets, qs, flow = FIELD_OF[self.agent], [], [], 0.0
        for i in range(B):
            s, a, following = b["observations"][i], b["a"][i], b["s'"][i]
            if self.agent == "ifql":
                value = self.net(o, "value", following)[0]
            else:
                noise, edit = self.next_noise(n, i)
                value = self.pessimistic(self.q(o, "target_critic", following, self.act(o, following, noise, edit)))
            targets.append(b["r"][i] + c["discount"] ** H * b["mask"][i] * value)
            qs.append(self.q(p, "critic", s, a))
            total = total + b["ok"][i] * ((qs[i] - targets[i]) ** 2).mean() / B
            x0, t = n["bc_x0"][i], float(n["bc_t"][i, 0])
            error = self.cloning_error(p, field, s, a, x0, t)
            flow = flow + b["ok"][i] * (error**2).mean() / B
        self.target_q = torch.stack(targets)
        info["critic/critic_loss"] = total
        shown = torch.stack(targets if self.agent == "ifql" else qs)
        info |= {"critic/q_mean": shown.mean(), "critic/q_min": shown.min(), "critic/q_max": shown.max()}
        extra, more = getattr(self, {"trqam": "qam"}.get(self.agent, self.agent))(p, o, b, n)
        if self.agent == "fql":
            info |= {"actor/bc_flow_loss": flow, "actor/actor_loss": flow + extra}
        else:
            info["actor/actor_loss" if self.agent == "ifql" else "actor/flow_loss"] = flow
        return total + flow + extra, {**info, **more}

    def cloning_error(self, p, field, s, a, x0, t):
        return self.v(p, field, s, (1 - t) * x0 + t * a, t) - (a - x0)

    def next_noise(self, n, i):
        return n["next_latent_eps" if self.agent == "dsrl" else "next_action_noise"][i], (
            n["next_edit_eps"][i] if self.editing else None
        )

    def fql(self, p, o, b, n):
        distill = value = 0.0
        for i in range(B):
            s, z = b["observations"][i], n["distill_noise"][i]
            mu = self.net(p, "actor_onestep_flow", torch.cat([s, z]))
            distill = distill + ((mu - self.ode(o, "actor_bc_flow", s, z).clip(-1, 1)) ** 2).mean() / B
            value = value + self.q(o, "critic", s, mu.clip(-1, 1)).mean() / B
        return self.c["alpha"] * distill - value, {"actor/distill_loss": distill}

    def ifql(self, p, o, b, n):
        loss = 0.0
        for i in range(B):
            u = self.pessimistic(self.q(o, "target_critic", b["observations"][i], b["a"][i]))
            u = u - self.net(p, "value", b["observations"][i])[0]
            loss = loss + abs(self.c["kappa"] - (1 if u < 0 else 0)) * u**2 / B
        return loss, {"value/value_loss": loss}

    def cgql(self, p, o, b, n):
        c, loss = self.c, 0.0
        for i in range(B):
            s, a, t = b["observations"][i], b["a"][i], float(n["critic_t"][i, 0])
            clean = self.q(o, "target_critic", s, a)
            noisy = self.q(p, "critic", s, (1 - t) * n["critic_noise"][i] + t * a, t)
            for k in range(self.E):
                delta = c["inv_temp"] * (clean[k] - noisy[k])
                term = delta if delta > c["isd_clip"] else delta.exp() + c["inv_temp"] * noisy[k]
                loss = loss + b["ok"][i] * term / (B * self.E)
        return c["noisy_coef"] * loss, {"critic/noisy_critic_loss": loss}

    def temper(self, p, o, module, log_probs):
        """The entropy bonus and the temperature's loss."""
        alpha, fixed = p[f"modules_{module}/log_value"].exp(), o[f"modules_{module}/log_value"].exp()
        entropy = -torch.stack(log_probs).detach().mean()
        return fixed * torch.stack(log_probs).mean(), alpha * (entropy - self.entropy_target), entropy, alpha

    def dsrl(self, p, o, b, n):
        distill, value, log_probs = 0.0, 0.0, []
        for i in range(B):
            s, z = b["observations"][i], n["distill_noise"][i]
            wanted = self.q(o, "critic", s, self.ode(o, self.steered, s, z).clip(-1, 1))
            distill = distill + ((self.q(p, "z_critic", s, z) - wanted) ** 2).mean() / B
            sample, log_prob = self.gaussian(p, "actor", s, n["latent_eps"][i])
            value = value + self.q(o, "z_critic", s, self.c["noise_scale"] * sample).mean() / B
            log_probs.append(log_prob)
        bonus, tuning, entropy, alpha = self.temper(p, o, "alpha", log_probs)
        info = {"critic/distill_loss": distill, "actor/actor_loss": bonus - value, "actor/entropy": entropy}
        return distill + bonus - value + tuning, {**info, "actor/alpha": alpha}

    def qam(self, p, o, b, n):
        found = [self.adjoint_matching(p, o, b["observations"][i], n, i) for i in range(B)]
        loss, kl = (sum(f[k] for f in found) / B for k in (0, 1))
        self.xs, self.adjs = (torch.stack([f[k] for f in found], 1) for k in (2, 3))
        ends = torch.stack([f[4] for f in found]).abs()
        info = {"actor/adj_loss": loss, "actor/fast_loss": loss, "actor/adj_mean": ends.mean()}
        info |= {"actor/adj_max": ends.max(), "actor/adj_std": ((ends - ends.mean()) ** 2).mean() ** 0.5}
        info |= {"actor/path_kl": kl, "dual/kl_estimate": kl}
        if not self.editing:
            return loss, info
        value, log_probs = 0.0, []
        for i in range(B):
            s = b["observations"][i]
            flow = self.ode(o, "actor_fast", s, n["edit_base_noise"][i]).clip(-1, 1)
            edit, log_prob = self.gaussian(p, "edit_actor", torch.cat([s, flow]), n["edit_eps"][i])
            value = value + self.q(o, "critic", s, (flow + self.c["edit_scale"] * edit).clip(-1, 1)).mean() / B
            log_probs.append(log_prob)
        bonus, tuning, entropy, alpha = self.temper(p, o, "edit_alpha", log_probs)
        info |= {"actor/edit_q_loss": -value, "actor/edit_entropy_loss": bonus, "actor/edit_alpha_loss": tuning}
        return loss - value + bonus + tuning, {**info, "actor/edit_entropy": entropy, "actor/edit_alpha": alpha}

    def lambda_eff(self):
        return max(self.c["lam_scale"] * self.lam, 1e-8) if self.agent == "trqam" else 1.0

    def terminal(self, o, s, x):
        module = "target_critic" if self.c["use_target_grad"] else "critic"
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            inside = x.clip(-1, 1) if self.c["clip_adj"] else x
            gradient = torch.autograd.grad(self.q(o, module, s, inside).mean(), x)[0]
        return -gradient * (1.0 if self.agent == "trqam" else self.c["inv_temp"])

    def adjoint_matching(self, p, o, s, n, i):
        """Loss, path KL, states, adjoints and terminal adjoint of one sample."""
        h, base = 1 / self.K, "target_actor_slow" if self.c["target_actor"] else "actor_slow"
        xs = [n["adj_x0"][i]]
        for k in range(self.K - 1):
            t, x = k * h, xs[-1]
            g = math.sqrt(2 * (1 - t + h) / (t + h))
            drift = 2 * self.v(o, "actor_fast", s, x, t) - x / (t + h)
            xs.append(x + h * drift + math.sqrt(h) * g * n[f"adj_eps_{k}"][i])
        last = xs[-1] + h * self.v(o, base, s, xs[-1], (self.K - 1) * h)
        adjoints = [self.terminal(o, s, last)]
        for k in reversed(range(self.K)):
            t = k * h + h
            jacobian = torch.autograd.functional.jacobian(lambda x, t=t: 2 * self.v(o, base, s, x, t) - x / t, xs[k])
            adjoints.insert(0, adjoints[0] + h * jacobian.T @ adjoints[0])
        loss, kl = self.matching(p, o, s, base, xs, adjoints, [k * h for k in range(self.K)])
        return loss, kl, torch.stack(xs), torch.stack(adjoints[:-1]), adjoints[-1]

    def matching(self, p, o, s, base, xs, adjoints, times):
        h, loss, kl = 1 / self.K, 0.0, 0.0
        for x, adjoint, t in zip(xs, adjoints, times, strict=False):
            g2 = 2 * (1 - t + h) / (t + h)
            sigma = math.sqrt(g2 / self.lambda_eff())
            dv = self.v(p, "actor_fast", s, x, t) - self.v(o, base, s, x, t)
            loss = loss + ((2 / sigma * dv + sigma * adjoint) ** 2).sum()
            kl = kl + 2 * h / g2 * (dv**2).sum() / self.chunk
        return loss, kl

    # One update, and a file of ten

    def update(self, b, n):
        """One update in place; what it logs, and the gradient before clipping."""
        o = {k: v.clone() for k, v in self.p.items()}
        p = {k: v.clone().requires_grad_() for k, v in self.p.items()}
        loss, info = self.loss(p, o, b, n)
        found = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
        gradients = {k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(p.items(), found, strict=True)}
        norm = sum((g**2).sum() for g in gradients.values()) ** 0.5
        info |= {"grad/norm": sum((g**2).sum() ** 0.5 for g in gradients.values())}
        info |= {"grad/max": max(g.max() for g in gradients.values())}
        info |= {"grad/min": min(g.min() for g in gradients.values())}
        clip = self.c.get("clip_grad", False) and norm >= 1
        self.steps += 1
        for k, gradient in gradients.items():
            gradient = gradient / norm if clip else gradient
            self.mu[k] = 0.9 * self.mu[k] + 0.1 * gradient
            self.nu[k] = 0.999 * self.nu[k] + 0.001 * gradient**2
            mu, nu = self.mu[k] / (1 - 0.9**self.steps), self.nu[k] / (1 - 0.999**self.steps)
            self.p[k] = o[k] - self.c["lr"] * mu / (nu**0.5 + 1e-8)
        for module in self.targets:
            for k in [k for k in o if k.startswith(f"modules_{module}/")]:
                name = k.replace("modules_", "modules_target_")
                self.p[name] = self.c["tau"] * o[k] + (1 - self.c["tau"]) * o[name]
        if "kl_budget" in self.c:
            self.dual(float(info["actor/path_kl"].detach()))
            info["dual/kl_ema"] = self.kl_ema
        return {k: float(getattr(v, "data", v)) for k, v in info.items()}, gradients, float(norm)

    def dual(self, kl):
        c = self.c
        kl = min(kl, c["kl_clip_coef"] * c["kl_budget"])
        self.kl_ema = (1 - c["kl_ema_coef"]) * self.kl_ema + c["kl_ema_coef"] * kl
        lam = self.lam + c["eta_lambda"] * (self.kl_ema - c["kl_budget"])
        self.lam = min(max(lam, c["lambda_min"]), c["lambda_max"])

    def read(self, raw):
        """The batch as the losses see it: the last entry of each sequence, flat actions."""
        raw = {k: torch.from_numpy(np.asarray(v)) for k, v in raw.items()}
        b = {"observations": raw["observations"], "a": raw["actions"][:, : self.chunk].flatten(1)}
        return b | {ours: raw[k][:, -1] for ours, k in BATCH.items()}

    def draw(self):
        """Raw batch and noise of one update; some chunks end an episode, some are invalid, some touch the box."""
        batch = {
            "observations": self.rng.standard_normal((B, OBS)),
            "actions": np.clip(1.3 * self.rng.standard_normal((B, H, ACT)), -1, 1),
            "rewards": -self.rng.random((B, H)),
            "masks": self.rng.integers(0, 2, (B, H)).astype(float),
            "valid": self.rng.integers(0, 2, (B, H)).astype(float),
            "next_observations": self.rng.standard_normal((B, H, OBS)),
        }
        batch["terminals"] = 1 - batch["masks"]
        chunk, proposals = (B, self.D), (B, self.c.get("best_of_n", 1), self.D)
        shapes = {
            "qam": {"next_action_noise": proposals, "adj_x0": chunk, **{f"adj_eps_{i}": chunk for i in range(self.K)}},
            "fql": {"next_action_noise": proposals, "distill_noise": chunk},
            "cgql": {"next_action_noise": proposals, "critic_noise": chunk},
            "dsrl": {"next_latent_eps": proposals, "distill_noise": chunk, "latent_eps": chunk},
            "ifql": {},
        }[self.agent if self.agent != "trqam" else "qam"]
        if self.editing:
            shapes |= {"next_edit_eps": proposals, "edit_base_noise": chunk, "edit_eps": chunk}
        noise = {k: self.rng.standard_normal(shape) for k, shape in {**shapes, "bc_x0": chunk}.items()}
        noise |= {k: self.rng.random((B, 1)) for k in ("bc_t", *(["critic_t"] if self.agent == "cgql" else []))}
        return batch, noise

    def write(self, path, lam=1.0, kl_ema=0.0):
        """A file of the golden format."""
        self.lam, self.kl_ema = lam, kl_ema
        out = {f"init/params/{k}": v.numpy() for k, v in self.p.items()}
        if "kl_budget" in self.c:
            out |= {"init/lam": np.asarray(lam), "init/kl_ema": np.asarray(kl_ema)}
        count = self.c.get("num_samples", self.c.get("best_of_n"))
        s, z, edit = self.normal(4, OBS), 1.5 * self.normal(4, count, self.D), self.normal(4, count, self.D)
        actions = [self.act(self.p, s[i], z[i], edit[i]) for i in range(4)]
        out |= {"act/observations": s.numpy(), "act/noise": z.numpy(), "act/actions": torch.stack(actions).numpy()}
        if self.editing:
            out["act/edit_eps"] = edit.numpy()
        sequences = {}
        for update in range(1, UPDATES + 1):
            batch, noise = self.draw()
            tensors = {k: torch.from_numpy(v) for k, v in noise.items()}
            info, gradients, norm = self.update(self.read(batch), tensors)
            row = {f"batch/{k}": v for k, v in batch.items()} | {f"noise/{k}": v for k, v in noise.items()}
            row |= {f"info/{k}": v for k, v in info.items()} | {"info_extra/grad_global_norm": norm}
            if "kl_budget" in self.c:
                row |= {"traj/lam": self.lam, "traj/kl_ema": self.kl_ema}
            for k, v in row.items():
                sequences.setdefault(k, []).append(v)
            if update == 1:
                groups = {"grads": gradients, "params": self.p, "adam_mu": self.mu, "adam_nu": self.nu}
                out |= {f"step1/{g}/{k}": v.numpy().copy() for g, found in groups.items() for k, v in found.items()}
                out["step1/inter/target_q"] = self.target_q.numpy()
                if self.agent in ("qam", "trqam"):
                    out |= {"step1/adj/xs": self.xs.numpy(), "step1/adj/adjs": self.adjs.numpy()}
        out |= {f"step{UPDATES}/params/{k}": v.numpy() for k, v in self.p.items()}
        meta = {"file": "slow", "agent": self.agent, "dtype": "f64", "nsteps": UPDATES, "obs_dim": OBS}
        meta |= {"action_dim": ACT, "horizon": H, "batch": B, "config": self.c}
        arrays = {k: np.stack([np.asarray(v) for v in values]) for k, values in sequences.items()}
        np.savez(path, meta=np.asarray(json.dumps(meta)), **out, **arrays)


BATCH = {"r": "rewards", "mask": "masks", "ok": "valid", "s'": "next_observations"}
