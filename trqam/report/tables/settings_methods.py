"""The parameters of each method."""

from trqam.config import Config, Method
from trqam.report import enumerated, shown, words
from trqam.report.collected import Collected
from trqam.report.tables import Grid, by_group


def table(collected: Collected) -> Grid:
    """The parameters of each method, where a domain of this scale overrides them, and what an ablation changes."""
    config = collected.config
    rows = []
    for name in [*by_group(config), *config.scale.ablations]:
        method, base = config.methods[name], _base(config, name)
        same = config.methods[base].parameters if base else {}
        own = {key: value for key, value in method.parameters.items() if same.get(key, ...) != value}
        own = {words(key): shown(value) for key, value in own.items()}
        parts = [f"as {config.methods[base].label}"] if base else []
        parts += ["no behaviour cloning first"] if base and "pretrain" not in method.stages else []
        parts += [f"{key} {value}" for key, value in own.items()] or ([] if base else ["none"])
        alike = base is not None and method.domains == config.methods[base].domains
        rows.append((method.label, ", ".join(parts), "" if alike else _overrides(config, method)))
    caption = f"Parameters of each method, from {config.scale.methods_file}; a KL budget not named is the domain's."
    if config.budget_sweep:
        budgets = enumerated([f"{budget:g}" for budget in config.budget_sweep])
        caption += f" The budget sweep is TRQAM with {budgets} in its place."
    header = ("method", "parameters", "instead, in these domains")
    wide = ">{\\raggedright\\arraybackslash}"
    if not any(row[2] for row in rows):
        return Grid(caption, f"l{wide}p{{0.7\\linewidth}}", header[:2], tuple(row[:2] for row in rows))
    columns = f"{wide}p{{0.17\\linewidth}}{wide}p{{0.3\\linewidth}}{wide}p{{0.5\\linewidth}}"
    return Grid(caption, columns, header, tuple(rows))


def _base(config: Config, name: str) -> str | None:
    """The compared method that the ablation ``name`` has its agent from."""
    alike = [m for m in config.compared if config.methods[m].agent == config.methods[name].agent]
    return alike[0] if alike and name in config.scale.ablations else None


def _overrides(config: Config, method: Method) -> str:
    """`inverse temperature: scene 3, cube-double 1; edit scale: scene 0`."""
    places: dict[str, list[str]] = {}
    for domain in config.task_domains:
        for key, value in method.domains.get(domain, {}).items():
            places.setdefault(words(key), []).append(f"{config.domains[domain].label} {shown(value)}")
    return "; ".join(f"{key}: {', '.join(where)}" for key, where in places.items())
