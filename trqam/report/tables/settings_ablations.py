"""What each ablation changes."""

from trqam.config.load import Config
from trqam.config.wording import enumerated, shown, words
from trqam.report.collected import Collected
from trqam.report.settings import base_method
from trqam.report.tables import Grid


def table(collected: Collected) -> Grid:
    """The ablations by what they change, the stages they go through, and the budget sweep in one row."""
    config = collected.config
    rows = [
        (config.methods[name].label, _changed(config, name), _stages(config, name)) for name in config.scale.ablations
    ]
    if config.budget_sweep:
        budgets = enumerated([shown(budget) for budget in config.budget_sweep])
        stages = _stages(config, next(iter(config.budget_sweep.values())))
        rows.append(("Budget sweep", f"as {config.methods['trqam'].label}, with a KL budget of {budgets}", stages))
    caption = f"Ablations and what they change, from {config.scale.methods_file} and {config.path}."
    wide = ">{\\raggedright\\arraybackslash}"
    return Grid(caption, f"l{wide}p{{0.55\\linewidth}}l", ("ablation", "what it changes", "stages"), tuple(rows))


def _changed(config: Config, name: str) -> str:
    """`as QAM, no behaviour cloning first`; a method with an agent of its own is told by its table."""
    method, base = config.methods[name], base_method(config, name)
    if base is None:
        return "a loss of its own; its parameters are in the tables above"
    same = config.methods[base]
    own = {key: value for key, value in method.parameters.items() if same.parameters.get(key, ...) != value}
    parts = [] if "pretrain" in method.stages else ["no behaviour cloning first"]
    parts += [f"{words(key)} {shown(value)} in place of {shown(same.parameters[key])}" for key, value in own.items()]
    parts += [] if method.domains == same.domains else ["its own values by domain"]
    return ", ".join([f"as {same.label}", *parts])


def _stages(config: Config, name: str) -> str:
    first = ["cloning"] if "pretrain" in config.methods[name].stages else []
    return enumerated([*first, *config.stages(name)])
