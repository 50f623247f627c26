"""What the methods set for each domain, and in the caption what they set for all."""

from itertools import groupby

from trqam.config.load import Config
from trqam.config.wording import shown, words
from trqam.report.collected import Collected
from trqam.report.settings import CLIPPED, own_parameters, per_domain, runs_in
from trqam.report.symbols import heading
from trqam.report.tables import MISSING, Grid

LABELS = {"entropy_per_dimension": "target entropy a dimension", "clip_adjoint": CLIPPED}


def table(collected: Collected) -> Grid:
    """Domains by parameters, grouped by method; an assumed value carries an asterisk.

    A parameter has a column if methods.yaml gives it another value in some domain, even if no task of it runs here.
    """
    config = collected.config
    columns = [(method, key) for method in own_parameters(config) for key in per_domain(config, method)]
    rows = [
        (config.domains[name].label, *(_value(config, method, key, name) for method, key in columns))
        for name in config.task_domains
    ]
    groups = [
        (config.methods[method].label, len([*keys])) for method, keys in groupby(columns, lambda column: column[0])
    ]
    header = ("domain", *(heading(key, LABELS.get(key)) for _, key in columns))
    caption = f"Parameters by domain, from {config.scale.methods_file}."
    if any("*" in text for row in rows for text in row):
        caption += " *: assumed, since the authors do not publish it: taken from QAM's own paper."
    caption += _fixed(config)
    return Grid(caption, "l" + "r" * len(columns), header, tuple(rows) if columns else (), groups=(("", 1), *groups))


def _value(config: Config, method: str, key: str, name: str) -> str:
    if not runs_in(config, method, name):
        return MISSING
    block, override = config.methods[method], config.methods[method].domains.get(name, {})
    inferred = key in override and name not in block.known and config.domains[name].in_paper
    return shown({**block.parameters, **override}[key]) + "*" * inferred


def _fixed(config: Config) -> str:
    """` In every domain: FQL x 1, y 2; ...`, of the methods that no other table is about."""
    parts = []
    for method in own_parameters(config):
        block = config.methods[method]
        if "dual_rate" in block.parameters:
            continue
        fixed = {k: v for k, v in block.parameters.items() if k not in per_domain(config, method)}
        if fixed:
            values = ", ".join(f"{LABELS.get(key, words(key))} {shown(value)}" for key, value in fixed.items())
            parts.append(f"{block.label}: {values}")
    return f" In every domain: {'; '.join(parts)}." if parts else ""
