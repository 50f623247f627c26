"""The trust region: what its methods hold the path KL to, and how."""

from trqam.config.load import Config
from trqam.config.wording import shown, words
from trqam.report.collected import Collected
from trqam.report.settings import CLIPPED, own_parameters, per_domain, runs_in
from trqam.report.symbols import symbol
from trqam.report.tables import MISSING, Grid

LABELS = {
    "clip_adjoint": CLIPPED,
    "initial_multiplier": "initial multiplier",
    "multiplier_scale": "multiplier's scale in the process",
    "dual_rate": "dual rate",
    "kl_ema_rate": "rate of the KL's moving average",
    "kl_clip": "a KL estimate counts for at most (budgets)",
    "multiplier_min": "least multiplier",
    "multiplier_max": "greatest multiplier",
}


def table(collected: Collected) -> Grid:
    """The multiplier's parameters of each method that has a multiplier, then the KL budget in each domain."""
    config = collected.config
    methods = [method for method in own_parameters(config) if "dual_rate" in config.methods[method].parameters]
    parameters = {method: config.methods[method].parameters for method in methods}
    varying = {key for method in methods for key in per_domain(config, method)} | {"kl_budget"}
    keys = list(dict.fromkeys(key for values in parameters.values() for key in values if key not in varying))
    rows = [
        (
            LABELS.get(key, words(key)),
            symbol(key),
            *(shown(values[key]) if key in values else MISSING for values in parameters.values()),
        )
        for key in keys
    ]
    for name in config.task_domains if methods else []:
        rows.append(
            (
                f"KL budget, {config.domains[name].label}",
                symbol("kl_budget"),
                *(_budget(config, m, name) for m in methods),
            )
        )
    labels = [config.methods[method].label for method in methods]
    caption = f"The trust region, from {config.scale.methods_file} and {config.scale.domains_file}."
    caption += " A KL budget is in nats of path KL an action."
    if any("*" in text for row in rows for text in row[2:]):
        caption += " *: assumed, since the authors do not publish it."
    if any(text == MISSING for row in rows for text in row):
        caption += f" {MISSING}: the method has no such setting, or does not run there."
    return Grid(caption, "lc" + "r" * len(labels), ("setting", "symbol", *labels), tuple(rows))


def _budget(config: Config, method: str, name: str) -> str:
    """What ``method`` is held to in the domain ``name``; the online stage's follows where it is another."""
    if not runs_in(config, method, name):
        return MISSING
    domain, own = config.domains[name], config.methods[method].parameters.get("kl_budget")
    if own is not None:
        return shown(own)
    text = shown(domain.kl_budget) + "*" * ("kl_budget" in domain.assumed)
    if domain.kl_budget_online is not None:
        text += f", online {shown(domain.kl_budget_online)}" + "*" * ("kl_budget_online" in domain.assumed)
    return text
