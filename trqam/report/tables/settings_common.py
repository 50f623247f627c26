"""The settings that all runs share."""

from trqam.config.schema import Run
from trqam.config.wording import shown, words
from trqam.report.collected import Collected
from trqam.report.symbols import symbol
from trqam.report.tables import Grid

BESIDE = ("seeds", "ablation_eval_interval")  # settings of a scale that are not a run's own
UNREAD = ("checkpoint_interval",)  # changes no number
LABELS = {  # in the table's order
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


def table(collected: Collected) -> Grid:
    """Every value of the scale file that a result depends on, if the scale sets it."""
    scale = collected.config.scale
    official = scale.data_source == "official"
    keys = [key for key in scale.__struct_fields__ if key in (*Run.__struct_fields__, *BESIDE) and key not in UNREAD]
    keys = [key for key in sorted(keys, key=_place) if getattr(scale, key) is not None]
    keys = [key for key in keys if not (official and key in ("transitions", "data_seed"))]
    rows = [(LABELS.get(key, words(key)), symbol(key), shown(getattr(scale, key))) for key in keys]
    caption = f"Settings that all runs share, from {collected.config.path}."
    return Grid(caption, "lcr", ("setting", "symbol", "value"), tuple(rows))


def _place(key: str) -> int:
    """A key without a label comes last."""
    return [*LABELS].index(key) if key in LABELS else len(LABELS)
