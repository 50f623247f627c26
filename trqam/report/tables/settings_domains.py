"""The settings of each domain."""

from trqam.config.wording import shown
from trqam.report.collected import Collected
from trqam.report.symbols import heading
from trqam.report.tables import MISSING, Grid

LABELS = {
    "hidden_width": "hidden width",
    "hidden_layers": "hidden layers",
    "actor_layer_norm": "actor LayerNorm",
    "normalise_observations": "observations normalised",
}
KEYS = (
    "horizon",
    "hidden_width",
    "hidden_layers",
    "actor_layer_norm",
    "normalise_observations",
    "discount",
    "pessimism",
)


def table(collected: Collected) -> Grid:
    """What differs between domains; an assumed value, one that the authors do not publish, carries an asterisk."""
    config, rows = collected.config, []
    for name in config.task_domains:
        domain, card = config.domains[name], collected.datasets.get(name)
        values = {key: getattr(config.scale, key, None) or getattr(domain, key) for key in KEYS}
        data = shown(card["transitions"]) if card else MISSING
        rows.append((domain.label, data, *(shown(v) + "*" * (key in domain.assumed) for key, v in values.items())))
    caption = f"Settings of each domain, from {config.scale.domains_file}, and the transitions of its dataset."
    if any("*" in text for row in rows for text in row):
        caption += " *: assumed, since the authors do not publish it."
    header = ("domain", heading("transitions"), *(heading(key, LABELS.get(key)) for key in KEYS))
    return Grid(caption, "l" + "r" * (len(KEYS) + 1), header, tuple(rows))
