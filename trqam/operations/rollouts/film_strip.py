"""A film strip of one task: the same episode under behaviour cloning and under the fine-tuned policy, as PNG and JSON.

Which episode is fixed in advance: number 0 of the evaluation stream. Without OpenGL the PNG says so in words, so that
everything which shows it can go on.
"""

import textwrap
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from trqam.config.load import Config, domain_of
from trqam.config.strict import read_record
from trqam.config.wording import count, enumerated, task_label, thousands
from trqam.experiment.files import refuse_foreign, write_atomically, write_json
from trqam.experiment.run import cell_of, check_place, check_same
from trqam.operations.rollouts.camera import PALE, pictures
from trqam.operations.rollouts.saved_policy import Episode, evaluate, load
from trqam.report.selection import STRIP_METHODS, STRIP_SEED, Strip

SEED, EPISODE = STRIP_SEED, 0  # the latter is the episode's number; both fixed before anything was seen
FRAMES, SIZE, GAP, DPI = 8, 240, 8, 100  # pictures a row; pixels
HEAD, FOOT = 56, 48  # of a row, pixels


@dataclass(frozen=True)
class Played:
    """One policy's episode; no episode if it diverged, no frames where nothing renders."""

    label: str
    trained: str  # how long, in words
    colour: str
    episode: Episode | None
    frames: list[tuple[int, np.ndarray]]

    @property
    def outcome(self) -> str:
        """The episode's end in words."""
        if self.episode is None:
            return "diverged in training: no policy to show"
        steps = count(self.episode.length, "step")
        return f"success after {steps}" if self.episode.success else f"failure: no success in {steps}"


def make(config: Config, task: str, folder: Path, trouble: str | None) -> None:
    """Write {task}.png and {task}.json to ``folder``; ``trouble`` says why nothing can be rendered.

    Those of an earlier call are replaced; UserError if others' files have these names.
    """
    picture, record = folder / f"{task}.png", folder / f"{task}.json"
    fix = "move it away"
    refuse_foreign(record, lambda path: read_record(path, Strip, fix).get("task") == task, "film strip's record", fix)
    refuse_foreign(picture, lambda _: record.exists(), "film strip, which has a record beside it", fix)
    rows = [_row(config, task, method, trouble is None) for method in STRIP_METHODS]
    figure, content = _sheet(rows) if trouble is None else _notice(rows, trouble), BytesIO()
    figure.savefig(content, format="png")
    text = "; ".join(f"{row.label}: {row.outcome}" for row in rows)  # for who cannot see the picture
    told = Strip(rendered=trouble is None, caption=caption(config, task, trouble), text=text, task=task)
    write_json(record, msgspec.to_builtins(told))  # first: the picture alone would not be known as ours
    write_atomically(picture, content.getvalue())


def _row(config: Config, task: str, method: str, rendered: bool) -> Played:
    cell, stage, run = cell_of(config, task, method, SEED), config.stages(method)[-1], config.run(task, method)
    episode, frames = None, []
    if not cell.diverged.is_file():
        kept = load(cell.path, stage, data=Path(config.scale.data_dir))
        check_place(kept.record, cell, stage, cell.directory(stage))
        check_same(kept.record, run, stage, cell.directory(stage), config.command("clean", task, method))
        episode = evaluate(kept, EPISODE + 1, SEED)[EPISODE]
        if rendered:  # moments from the first state to the last, evenly spaced in the episode's own time
            moments = set(np.linspace(0, episode.length, FRAMES).round().astype(int).tolist())
            frames = pictures(task, episode, moments, SIZE)
    shown = config.methods[method]
    return Played(shown.label, _trained(config, method, stage), shown.colour, episode, frames)


def _trained(config: Config, method: str, stage: str) -> str:
    run, trained = config.scale, config.methods[method].stages
    parts = [f"{thousands(run.pretrain_steps)} steps of cloning"] if "pretrain" in trained else []
    parts += [f"{thousands(run.offline_steps)} offline gradient steps"] if "offline" in trained else []
    parts += [f"{thousands(run.online_steps)} online environment steps"] if stage == "online" else []
    return enumerated(parts)


def caption(config: Config, task: str, trouble: str | None = None) -> str:
    """What a reader must know to read the strip."""
    labels = enumerated([config.methods[method].label for method in STRIP_METHODS])
    chosen = (
        f"{task_label(config, task)}: one episode, from the same start, under {labels}. It is episode {EPISODE} of the"
        f" evaluation stream and training seed {SEED}, fixed in advance and not chosen for its outcome; how often the"
        " policies succeed is in the tables."
    )
    if trouble:
        return f"{chosen} Not drawn on this machine: {trouble}."
    legend = "Translucent objects, where there are any, show where the task wants them."
    if "maze" in domain_of(task):
        legend = "Seen from above: walls are white, the goal is the red disc, the yellow line the agent's path so far."
    return f"{chosen} {FRAMES} moments, evenly spaced in each episode's own time. {legend}"


def _sheet(rows: list[Played]) -> Figure:
    """Row by row: a heading in words, the pictures, pixel by pixel, and the steps under them."""
    width, height = FRAMES * (SIZE + GAP) - GAP, len(rows) * (HEAD + SIZE + FOOT)
    figure = Figure((width / DPI, height / DPI), DPI)
    grid = figure.subplots(len(rows), FRAMES, squeeze=False)
    figure.subplots_adjust(0, FOOT / height, 1, 1 - HEAD / height, GAP / SIZE, (HEAD + FOOT) / SIZE)
    for row, axes in zip(rows, grid, strict=True):
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        for axis, (step, picture) in zip(axes, row.frames, strict=False):
            axis.imshow(picture)
            axis.set_xlabel(f"step {thousands(step)}", size=20)
        axes[0].set_title(row.label, loc="left", size=24, color=row.colour, weight="bold")
        axes[2].set_title(row.trained, loc="left", size=14, color=PALE)
        axes[-1].set_title(row.outcome, loc="right", size=20)
    return figure


def _notice(rows: list[Played], trouble: str) -> Figure:
    """A small picture that says in words what would have been seen."""
    lines = [f"{row.label}: {row.outcome}" for row in rows] + textwrap.wrap(trouble, 72)
    figure = Figure((7.6, 0.3 * len(lines) + 0.2), DPI)
    figure.text(0.02, 0.5, "\n".join(lines), va="center", size=13, linespacing=1.5)
    return figure
