"""The two figures that take no result, and two minutes of a core: the same code with numbers that take seconds."""

from pathlib import Path

SMALLER = {
    "theory_figure": {
        "DUAL_STEPS": 15, "DIMENSIONS": (2, 3, 4), "SHOWN_DIMENSION": 3, "TOYS": 20, "FINE_STEPS": 12,
        "FLOW_STEPS": (10, 40, 80, 160), "VARIANCES": (1.0, 0.04), "MOVING_STEPS": 60, "STATE_UPDATES": 15,
        "TILTS": (3.5, 1.0), "BATCHES": (4, 8), "REPETITIONS": 5, "HELD_STEPS": 10,
        "BETWEEN_STEPS": (10, 20), "BETWEEN_DUAL_STEPS": 15,
    },
    "toy_experiment": {"CLONING_STEPS": 60, "STEPS": 30, "LAST": 5},
    "toy_figure": {"SEEDS": 2, "STEPS": 30},
}  # fmt: skip


def shorten(folder: Path) -> Path:
    """Makes them small in a copy of the project; the copy."""
    for module, values in SMALLER.items():
        with (folder / "trqam/report" / f"{module}.py").open("a") as file:
            file.writelines(f"{name} = {value!r}\n" for name, value in values.items())
    return folder
