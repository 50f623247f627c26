"""The settings of each domain."""

from trqam.report import shown, words
from trqam.report.collected import Collected
from trqam.report.tables import Grid


def table(collected: Collected) -> Grid:
    """What differs between domains; an assumed value, one that the authors do not publish, carries an asterisk."""
    config = collected.config
    fields = ("horizon", "hidden_width", "hidden_layers", "actor_layer_norm", "discount", "pessimism", "kl_budget")
    rows = []
    for name in config.task_domains:
        domain = config.domains[name]
        values = {key: getattr(config.scale, key, None) or getattr(domain, key) for key in fields}
        rows.append((domain.label, *(shown(v) + "*" * (key in domain.assumed) for key, v in values.items())))
    caption = f"Settings of each domain, from {config.scale.domains_file}. *: assumed, since not published."
    return Grid(caption, "l" + "r" * len(fields), ("domain", *map(words, fields)), tuple(rows))
