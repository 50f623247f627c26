"""A film strip of one task: the same episode under behaviour cloning and under the fine-tuned policy, as PNG and JSON.

Which episode is fixed in advance: number 0 of the evaluation stream. Without OpenGL the PNG says so in words, so that
everything which shows it can go on.
"""

import os
import textwrap
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from trqam.config.load import Config, domain_of
from trqam.config.strict import read_record
from trqam.config.wording import count, enumerated, task_label, thousands
from trqam.experiment.files import refuse_foreign, write_atomically, write_json
from trqam.experiment.run import cell_of, check_place, check_same
from trqam.operations.rollouts import episodes
from trqam.operations.rollouts.camera import INK, PALE, PAPER, font
from trqam.operations.rollouts.episodes import Episode
from trqam.operations.rollouts.saved_policy import Kept, load
from trqam.report.selection import STRIP_METHODS, STRIP_SEED, Strip

SEED, EPISODE = STRIP_SEED, 0  # the latter is the episode's number; both fixed before anything was seen
FRAMES, SIZE, GAP = 8, 240, 8  # pictures a row; pixels
HEAD, FOOT = 36, 28  # text sizes, pixels


@dataclass(frozen=True)
class Row:
    """One policy's episode; no episode if it diverged, no frames where nothing renders."""

    method: str
    label: str
    trained: str  # how long, in words
    colour: str
    episode: Episode | None
    frames: list[tuple[int, Image.Image]]

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
    fix = "move it away, or give another --folder"
    refuse_foreign(record, lambda path: read_record(path, Strip, fix).get("task") == task, "film strip's record", fix)
    refuse_foreign(picture, lambda _: record.exists(), "film strip, which has a record beside it", fix)
    rows = [_row(config, task, method, trouble is None) for method in STRIP_METHODS]
    image = _sheet(rows) if trouble is None else _notice(rows, trouble)
    content = BytesIO()
    image.save(content, "PNG", optimize=True)
    write_json(record, _record(config, task, rows, trouble))  # first: the picture alone would not be known as ours
    write_atomically(picture, content.getvalue())


def _row(config: Config, task: str, method: str, rendered: bool) -> Row:
    cell, stage, run = cell_of(config, task, method, SEED), config.stages(method)[-1], config.run(task, method)
    episode, frames = None, []
    if not cell.diverged.is_file():
        kept = load(cell.path, stage, data=Path(config.scale.data_dir))
        check_place(kept.record, cell, stage, cell.directory(stage))
        check_same(kept.record, run, stage, cell.directory(stage))
        episode = episodes.evaluate(kept, EPISODE + 1, SEED)[EPISODE]
        if rendered:
            frames = _frames(kept, episode)
    shown = config.methods[method]
    return Row(method, shown.label, _trained(config, method, stage), shown.colour, episode, frames)


def _frames(kept: Kept, episode: Episode) -> list[tuple[int, Image.Image]]:
    """FRAMES pictures from the first state to the last, evenly spaced in the episode's own time."""
    moments = set(np.linspace(0, episode.length, FRAMES).round().astype(int).tolist())
    return episodes.record(kept, EPISODE, SEED, episode, moments, SIZE)


def _trained(config: Config, method: str, stage: str) -> str:
    run, trained = config.scale, config.methods[method].stages
    parts = [f"{thousands(run.pretrain_steps)} steps of cloning"] if "pretrain" in trained else []
    parts += [f"{thousands(run.offline_steps)} offline gradient steps"] if "offline" in trained else []
    parts += [f"{thousands(run.online_steps)} online environment steps"] if stage == "online" else []
    return enumerated(parts)


def _record(config: Config, task: str, rows: list[Row], trouble: str | None) -> dict[str, Any]:
    return {
        "task": task,
        "rendered": trouble is None,
        "reason": trouble,
        "renderer": None if trouble else os.environ["MUJOCO_GL"],
        "training_seed": SEED,
        "evaluation_seed": SEED,
        "episode": EPISODE,
        "caption": caption(config, task, trouble),
        "text": "; ".join(f"{row.label}: {row.outcome}" for row in rows),  # for who cannot see the picture
        "rows": [
            {
                "method": row.method,
                "label": row.label,
                "trained": row.trained,
                "success": row.episode and row.episode.success,
                "length": row.episode and row.episode.length,
                "return": row.episode and row.episode.return_,
                "outcome": row.outcome,
                "steps": [step for step, _ in row.frames],
            }
            for row in rows
        ],
    }


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
    if "maze" in domain_of(task):
        legend = (
            "Seen from above: walls are white, the goal is the red disc, the yellow line is the agent's path so far."
        )
    else:
        legend = "Translucent objects, where there are any, show where the task wants them."
    return f"{chosen} {FRAMES} moments, evenly spaced in each episode's own time. {legend}"


def _sheet(rows: list[Row]) -> Image.Image:
    """Row by row: a heading in words, the pictures, the steps under them."""
    head, foot = round(HEAD * 1.6), round(FOOT * 1.7)
    height = head + SIZE + foot
    width = FRAMES * SIZE + (FRAMES - 1) * GAP
    image = Image.new("RGB", (width, len(rows) * height), PAPER)
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        top = number * height
        _heading(draw, row, top, width)
        for place, (step, picture) in enumerate(row.frames):
            left = place * (SIZE + GAP)
            image.paste(picture, (left, top + head))
            draw.rectangle((left, top + head, left + SIZE - 1, top + head + SIZE - 1), outline=PALE, width=2)
            _write(draw, (left + SIZE // 2, top + head + SIZE + foot // 2), f"step {thousands(step)}", FOOT, "mm")
    return image


def _heading(draw: ImageDraw.ImageDraw, row: Row, top: int, width: int) -> None:
    """The method's colour and name, how it was trained, and on the right how the episode ended."""
    middle = top + round(HEAD * 0.8)
    draw.rectangle((0, middle - HEAD // 2, HEAD // 3, middle + HEAD // 2), fill=row.colour)
    _write(draw, (HEAD * 0.7, middle), row.label, HEAD, "lm")
    end = HEAD * 0.7 + draw.textlength(row.label, font(HEAD)) + HEAD * 0.6
    _write(draw, (end, middle), row.trained, FOOT, "lm", PALE)
    _write(draw, (width, middle), row.outcome, HEAD, "rm")


def _write(draw: ImageDraw.ImageDraw, at: tuple, text: str, size: int, anchor: str, colour: str = INK) -> None:
    """One line; the font has no unbreakable space."""
    draw.text(at, text.replace("\u00a0", " "), colour, font(size), anchor=anchor)


def _notice(rows: list[Row], trouble: str) -> Image.Image:
    """A small picture that says in words what would have been seen."""
    lines = [f"{row.label}: {row.outcome}" for row in rows] + textwrap.wrap(trouble, 72)
    image = Image.new("RGB", (760, 30 * len(lines) + 20), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        _write(draw, (10, 25 + 30 * number), line, 20, "lm", INK if number < len(rows) else PALE)
    return image
