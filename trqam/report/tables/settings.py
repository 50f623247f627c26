"""The settings that trained, as tables: what all runs share, each domain, the trust region, baselines and ablations.

They print the configuration that trained, where runs are mixed today's; an assumed value carries an asterisk.
"""

from collections import Counter
from itertools import groupby
from typing import Any

from trqam.config.load import Config, domain_of
from trqam.config.parameters import OF_AGENT
from trqam.config.schema import CLONING, Method, Run
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import enumerated, shown, words
from trqam.report.collected import Collected
from trqam.report.latex import heading, symbol
from trqam.report.selection import compared
from trqam.report.tables import MISSING, Grid, grouped

BESIDE = ("seeds", "ablation_eval_interval")  # settings of a scale that are not a run's own
UNREAD = ("checkpoint_interval",)  # changes no number
SHARED = {  # in the table's order
    "seeds": "seeds",
    "data_source": "data",
    "transitions": "transitions of a generated dataset",
    "data_seed": "seed of a generated dataset",
    "sampling": "sampling of the data",
    "pretrain_steps": "behaviour cloning (gradient steps)",
    "offline_steps": "offline stage (gradient steps)",
    "online_steps": "online stage (environment steps, one update each)",
    "online_start": "environment steps before the first online update",
    "batch_size": "batch (chunks of actions)",
    "learning_rate": "learning rate (Adam)",
    "target_rate": "rate of the moving averages",
    "flow_steps": "flow steps",
    "critics": "critics in the ensemble",
    "hidden_width": "hidden width, in place of the domain's",
    "hidden_layers": "hidden layers, in place of the domain's",
    "eval_interval": "evaluation interval (steps)",
    "ablation_eval_interval": "evaluation interval of ablations (steps)",
    "eval_episodes": "episodes an evaluation, task and seed",
    "eval_environments": "episodes in flight at once",
    "log_interval": "logging interval (steps)",
}
DOMAIN = {  # columns
    "horizon": None,
    "hidden_width": "hidden width",
    "hidden_layers": "hidden layers",
    "actor_layer_norm": "actor LayerNorm",
    "normalise_observations": "observations normalised",
    "discount": None,
    "pessimism": None,
}
METHOD = {
    "clip_adjoint": "clipped adjoint",  # zero where an action lies outside of its box
    "entropy_per_dimension": "target entropy a dimension",
    "initial_multiplier": "initial multiplier",
    "multiplier_scale": "multiplier's scale in the process",
    "dual_rate": "dual rate",
    "kl_ema_rate": "rate of the KL's moving average",
    "kl_clip": "a KL estimate counts for at most (budgets)",
    "multiplier_min": "least multiplier",
    "multiplier_max": "greatest multiplier",
    "schedule": "schedule of the budget",
    "first_budget": "first budget of a stage, or without agreement (budgets)",
    "last_budget": "last budget of a stage, or in full agreement (budgets)",
    "divergence": "divergence that is held",
    "multiplier_width": "width of the multiplier's network",
    "multiplier_gain": "gain of the multiplier's network",
}
ASSUMED = " *: assumed, since the authors do not publish it"


def common(collected: Collected) -> Grid:
    """Every value of the scale file that a result depends on, if the scale sets it."""
    scale, order = collected.config.scale, [*SHARED]
    keys = [key for key in scale.__struct_fields__ if key in (*Run.__struct_fields__, *BESIDE) and key not in UNREAD]
    unused = ("transitions", "data_seed") if scale.data_source == "official" else ()
    keys = [key for key in keys if getattr(scale, key) is not None and key not in unused]
    keys.sort(key=lambda key: order.index(key) if key in order else len(order))
    rows = [(SHARED.get(key, words(key)), symbol(key), shown(getattr(scale, key))) for key in keys]
    caption = f"Settings that all runs share, from {collected.config.path}."
    return Grid(caption, "lcr", ("setting", "symbol", "value"), tuple(rows))


def domains(collected: Collected) -> Grid:
    """What differs between domains."""
    config, rows = collected.config, []
    for name in config.task_domains:
        domain, card = config.domains[name], collected.datasets.get(name)
        values = {key: getattr(config.scale, key, None) or getattr(domain, key) for key in DOMAIN}
        data = shown(card["transitions"]) if card else MISSING
        rows.append((domain.label, data, *(shown(v) + "*" * (key in domain.assumed) for key, v in values.items())))
    caption = f"Settings of each domain, from {config.scale.domains_file}, and the transitions of its dataset."
    caption += f"{ASSUMED}." if _starred(rows) else ""
    header = ("domain", heading("transitions"), *(heading(key, label) for key, label in DOMAIN.items()))
    return Grid(caption, "l" + "r" * (len(header) - 1), header, tuple(rows))


def trust_region(collected: Collected) -> Grid:
    """The multiplier's parameters of each method that has a multiplier, then the KL budget in each domain."""
    config = collected.config
    methods = [method for method in _with_parameters(config) if "dual_rate" in config.methods[method].parameters]
    varying = {key for method in methods for key in _per_domain(config, method)} | {"kl_budget"}
    keys = dict.fromkeys(k for method in methods for k in config.methods[method].parameters if k not in varying)
    rows = [
        (_label(key), symbol(key), *(_parameter(config.methods[method], key) for method in methods)) for key in keys
    ]
    for name in config.task_domains if methods else []:
        budgets = [_budget(config, method, name) for method in methods]
        rows.append((f"KL budget, {config.domains[name].label}", symbol("kl_budget"), *budgets))
    caption = f"The trust region, from {config.scale.methods_file} and {config.scale.domains_file}."
    caption += " A KL budget is in nats of path KL an action."
    caption += f"{ASSUMED}." if _starred([row[2:] for row in rows]) else ""
    if any(text == MISSING for row in rows for text in row):
        caption += f" {MISSING}: the method has no such setting, or does not run there."
    header = ("setting", "symbol", *(config.methods[method].label for method in methods))
    return Grid(caption, "lc" + "r" * len(methods), header, tuple(rows))


def baselines(collected: Collected) -> Grid:
    """Domains by the parameters that methods set by domain, grouped by method; the caption has their other ones.

    A parameter has a column if methods.yaml gives it another value in some domain, even if no task of it runs here.
    """
    config = collected.config
    columns = [(method, key) for method in _with_parameters(config) for key in _per_domain(config, method)]
    rows = [
        (config.domains[name].label, *(_value(config, method, key, name) for method, key in columns))
        for name in config.task_domains
    ]
    groups = grouped(config.methods[method].label for method, _ in columns)
    caption = f"Parameters by domain, from {config.scale.methods_file}."
    caption += f"{ASSUMED}: taken from QAM's own paper." if _starred(rows) else ""
    fixed = {method: _fixed(config, method) for method in _with_parameters(config)}
    parts = [f"{config.methods[method].label}: {text}" for method, text in fixed.items() if text]
    caption += f" In every domain: {'; '.join(parts)}." if parts else ""
    header = ("domain", *(heading(key, METHOD.get(key)) for _, key in columns))
    return Grid(caption, "l" + "r" * len(columns), header, tuple(rows) if columns else (), groups=(("", 1), *groups))


def ablations(collected: Collected) -> Grid:
    """The ablations by what they change, the stages they go through, and each sweep in one row."""
    config = collected.config
    rows = [
        (config.methods[name].label, _changed(config, name), _stages(config, name)) for name in config.scale.ablations
    ]
    keys = Counter(key for key, _ in {sweep[:2] for sweep in config.sweeps.values()})
    for (key, method), names in groupby(config.sweeps, lambda name: config.sweeps[name][:2]):
        swept = [*names]
        values = enumerated([f"{config.sweeps[name].value:g}" for name in swept])
        what = f"as {config.methods[method].label}, with {SWEEPS[key].words} {values}"
        whose = f", {config.methods[method].label}" * (keys[key] > 1)
        rows.append((config.methods[swept[0]].group + whose, what, _stages(config, swept[0])))
    caption = f"Ablations and what they change, from {config.scale.methods_file} and {config.path}."
    return Grid(caption, "lpl", ("ablation", "what it changes", "stages"), tuple(rows))


def _starred(rows: list[tuple[str, ...]]) -> bool:
    return any("*" in text for row in rows for text in row)


def _parameter(method: Method, key: str) -> str:
    return shown(method.parameters[key]) + "*" * (key in method.assumed) if key in method.parameters else MISSING


def _label(key: str) -> str:
    return METHOD.get(key, words(key))


def _base(config: Config, name: str) -> str | None:
    """The compared method that the ablation ``name`` has its agent from, or else inherits its parameters from."""
    agent = config.methods[name].agent
    alike = [m for m in config.compared if config.methods[m].agent == agent]
    alike += [m for m in config.compared if m != CLONING and issubclass(OF_AGENT[agent], _parameters(config, m))]
    return alike[0] if alike and name in config.scale.ablations else None


def _parameters(config: Config, method: str) -> type:
    return OF_AGENT[config.methods[method].agent]


def _with_parameters(config: Config) -> list[str]:
    """The methods of the scale that have parameters of their own, in the order of methods.yaml."""
    ablations = [name for name in config.scale.ablations if _base(config, name) is None]
    return [method for method in [*compared(config), *ablations] if config.methods[method].parameters]


def _per_domain(config: Config, method: str) -> list[str]:
    """The parameters that methods.yaml gives another value in some domain."""
    return list(dict.fromkeys(key for values in config.methods[method].domains.values() for key in values))


def _runs_in(config: Config, method: str, domain: str) -> bool:
    return any(m == method and domain_of(task) == domain for task, m in config.cells)


def _budget(config: Config, method: str, name: str) -> str:
    """What ``method`` is held to in the domain ``name``; the online stage's follows where it is another."""
    if not _runs_in(config, method, name):
        return MISSING
    domain, own = config.domains[name], config.methods[method].parameters.get("kl_budget")
    if own is not None:
        return shown(own)
    text = shown(domain.kl_budget) + "*" * ("kl_budget" in domain.assumed)
    if domain.kl_budget_online is not None:
        text += f", online {shown(domain.kl_budget_online)}" + "*" * ("kl_budget_online" in domain.assumed)
    return text


def _value(config: Config, method: str, key: str, name: str) -> str:
    if not _runs_in(config, method, name):
        return MISSING
    block, override = config.methods[method], config.methods[method].domains.get(name, {})
    inferred = key in override and name not in block.known and config.domains[name].in_paper
    return shown({**block.parameters, **override}[key]) + "*" * inferred


def _fixed(config: Config, method: str) -> str:
    """`x 1, y 2`: what the method sets for all domains, unless the table of the trust region is about it."""
    values: dict[str, Any] = config.methods[method].parameters
    fixed = {} if "dual_rate" in values else {k: v for k, v in values.items() if k not in _per_domain(config, method)}
    return ", ".join(f"{_label(key)} {shown(value)}" for key, value in fixed.items())


def _changed(config: Config, name: str) -> str:
    """`as QAM, no behaviour cloning first`; a method that inherits from none is told by its table."""
    method, base = config.methods[name], _base(config, name)
    if base is None:
        return "an agent of its own" + "; its parameters are in the other tables" * bool(method.parameters)
    same = config.methods[base]
    own = {key: value for key, value in method.parameters.items() if same.parameters.get(key, ...) != value}
    parts = [] if method.agent == same.agent else [f"agent {method.agent}"]
    parts += [] if "pretrain" in method.stages else ["no behaviour cloning first"]
    for key, value in own.items():
        before = f" in place of {shown(same.parameters[key])}" if key in same.parameters else ""
        parts.append(f"{words(key)} {shown(value)}{before}")
    parts += [] if method.domains == same.domains else ["its own values by domain"]
    return ", ".join([f"as {same.label}", *parts])


def _stages(config: Config, name: str) -> str:
    first = ["cloning"] if "pretrain" in config.methods[name].stages else []
    return enumerated([*first, *config.stages(name)])
