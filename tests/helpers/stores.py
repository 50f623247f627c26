"""Reading stores in tests, and writing their rows as OGBench does."""

import json

import numpy as np

from trqam.config.reading import read_json, sha256
from trqam.data.card import Statistics
from trqam.experiment.files import write_json

RAW = ("observations", "actions", "terminals", "qpos", "qvel", "button_states")


def load(directory, key):
    return np.load(directory / f"{key}.npy", allow_pickle=False)


def raw_arrays(directory):
    """The generated store's rows by OGBench's keys and types."""
    arrays = {key: load(directory, key) for key in RAW if (directory / f"{key}.npy").exists()}
    return arrays | {"terminals": arrays["terminals"].astype(bool)}


def write_npz(directory, path):
    """The store's raw arrays as OGBench writes them."""
    np.savez_compressed(path, **raw_arrays(directory))
    return path


BESIDE = (".lock", ".verify.lock", ".verified.json")  # in a store's folder, and no part of the data


def contents(directory):
    """The files of a store by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name not in BESIDE}


def write_store(directory, dataset, arrays, **changes):
    """A complete store of ``arrays``, all tasks with the labels of task 1; ``changes`` replaces keys of its card."""
    directory.mkdir(parents=True, exist_ok=True)
    labels = {f"{label}-task{n}": arrays[f"{label}-task1"] for label in ("rewards", "masks") for n in range(1, 6)}
    arrays, statistics = {**arrays, **labels}, Statistics(dataset)
    for key, array in arrays.items():
        np.save(directory / f"{key}.npy", array)
    statistics.add(arrays)
    card = {"dataset": dataset, "source": "generated", "seed": 0, "rows": len(arrays["terminals"])}
    card["shapes"] = {key: list(array.shape) for key, array in arrays.items()}
    card["sha256"] = {key: sha256(directory / f"{key}.npy") for key in arrays}
    card |= statistics.summary() | changes
    write_json(directory / "card.json", card)
    return card


def change_card(directory, change):
    """``change`` both copies of a store's card in the same way, as somebody would who knows that there are two."""
    for path in (directory / "card.json", directory / "store.json"):
        if path.exists():
            card = read_json(path)
            change(card)
            path.write_text(json.dumps(card))


class Arrays:
    """Arrays in memory as a `Source`, with explicit ``next_observations``."""

    KEYS = ("observations", "actions", "rewards", "masks", "terminals", "next_observations")

    def __init__(self, arrays):
        self._arrays = {key: np.asarray(arrays[key], dtype=np.float32) for key in self.KEYS}
        self.size = len(self._arrays["observations"])

    def gather(self, indices):
        return {key: array[indices] for key, array in self._arrays.items()}
