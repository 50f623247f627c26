"""The settings that all runs share."""

from trqam.report import shown, words
from trqam.report.collected import Collected
from trqam.report.tables import Grid

NOT_SETTINGS = (
    "scale", "domains_file", "methods_file", "tasks", "methods", "baselines", "baseline_tasks", "ablations", "budgets",
    "ablation_tasks", "ablation_stages", "data_dir", "seeds_per_job", "replicas", "keep",
)  # fmt: skip


def table(collected: Collected) -> Grid:
    """Every value of the scale file that training or evaluation reads."""
    config = collected.config
    fields = [key for key in config.scale.__struct_fields__ if key not in NOT_SETTINGS]
    rows = [(words(key), shown(getattr(config.scale, key))) for key in fields]
    half = -(-len(rows) // 2)
    pairs = [(*rows[i], *(rows[i + half] if i + half < len(rows) else ("", ""))) for i in range(half)]
    caption = f"Settings that all runs share, from {config.path}; 'default' leaves a value to the domain."
    return Grid(caption, "lr@{\\hspace{2em}}lr", ("setting", "value", "setting", "value"), tuple(pairs))
