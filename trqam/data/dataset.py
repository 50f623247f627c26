"""Offline data on disk, read through memory maps, and the chunk sampler.

A store is a folder of float32 ``.npy`` files in OGBench's raw layout (see ``trqam.data.store``): the rows of an
episode follow each other and its last row, marked by terminals = 1, is only a next observation. A *transition* is
any other row with its successor. Everything that can be sampled offers ``size``, the number of transitions, and
``gather(indices)``; ``Dataset``, ``Window`` and ``trqam.data.replay.Replay`` do.

Memory: a gathered batch is all that is copied. The maps count as the page cache's, which the kernel takes back when
it wants; ``benchmarks/memory.py`` measures it.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from trqam.config.errors import UserError
from trqam.config.load import Run
from trqam.config.schema import Normalisation
from trqam.data import verified
from trqam.data.card import RANGE, read
from trqam.environments.environment import dataset_of, task_number

ACTION_BOUND = 1 - 1e-5  # actions of the data are clipped to +- this, as by the authors
SHARD_STEPS = 1000  # steps that the authors train on one shard of a large dataset before they load the next


class Source(Protocol):
    """Transitions in order; those of one episode are consecutive and end with terminals = 1."""

    @property
    def size(self) -> int:
        """How many."""

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Of transitions ``indices`` [...]: observations and next_observations [..., O], actions [..., A], and
        rewards, masks and terminals [...]; float32."""


class Normaliser(NamedTuple):
    """Observations as every agent sees them, in batches and when it acts: less ``mean``, over ``std``, which over a
    dataset gives zero mean and unit variance, or the range [-1, 1]. Both are [O] or scalars, of NumPy for its arrays,
    or tensors for tensors."""

    mean: Any
    std: Any

    def __call__(self, observations: Any) -> Any:
        """``observations`` [..., O], normalised."""
        return (observations - self.mean) / self.std


UNCHANGED = Normaliser(np.float32(0), np.float32(1))


class Dataset:
    """The transitions of a store, with the rewards of one task. Make one with ``Dataset.open``.

    ``raw`` are the store's rows: observations, actions (not clipped), terminals, rewards and masks, [rows, ...];
    ``ends`` the number of transitions up to the end of each episode, [episodes]. ``normaliser`` is what the
    observations of training batches go through; what is gathered is not normalised.
    """

    def __init__(self, arrays: dict[str, np.ndarray], card: dict, normalised: Normalisation = False):
        """``arrays`` become ``raw``."""
        self.raw, self.card = arrays, card
        self.normaliser = normaliser_of(card, normalised)
        last_rows = np.flatnonzero(arrays["terminals"])
        self.ends = last_rows - np.arange(len(last_rows))  # each episode before has one row more than transitions
        self.size = int(self.ends[-1])
        rows = np.cumsum([shard["rows"] for shard in card.get("shards", [])] or [len(arrays["terminals"])])
        stops = (rows - np.searchsorted(last_rows, rows)).tolist()
        self.shards = list(zip([0, *stops[:-1]], stops, strict=True))  # the transitions [start, stop) of each file

    def check_belongs(self, run: Run, directory: Path, config: str) -> None:
        """A UserError if these are not the data that ``run`` asks for, which ``config`` says, or no chunk fits in."""
        longest = int(np.diff(self.ends, prepend=0).max())
        if run.horizon > longest:
            problem = f"horizon: {run.horizon} is longer than any episode, {longest} transitions"
            raise UserError(f"{directory / 'card.json'}: {problem}; lower it in the block {run.domain} of the domains")
        generated = {"transitions": run.transitions, "seed": run.data_seed} if run.data_source == "generated" else {}
        for key, value in {"source": run.data_source, **generated}.items():
            if self.card[key] != value:
                path, fix = directory / "card.json", f"choose another data_dir, or correct {config}"
                raise UserError(f"{path}: {key}: holds {self.card[key]}, and {config} says {value}; {fix}")

    @classmethod
    def open(cls, directory: Path | str, task: str, normalised: Normalisation = False) -> "Dataset":
        """Map the store in ``directory`` for ``task``; a UserError names the missing or damaged file and the fix.

        Each version of the files is read once and compared with their card (``trqam.data.verified``).
        """
        directory, name, number = Path(directory), dataset_of(task), task_number(task)
        fix = f"run `trqam generate {name}` (or convert the official files) again"
        if not (directory / "card.json").is_file():
            raise UserError(f"{directory / 'card.json'}: no dataset here; {fix}")
        card = read(directory / "card.json", name, fix)
        files = {key: key for key in ("observations", "actions", "terminals")}
        files |= {"rewards": f"rewards-task{number}", "masks": f"masks-task{number}"}
        maps = {k: verified.mapped(directory / f"{file}.npy", card["shapes"][file], fix) for k, file in files.items()}
        # Without np.memmap's bookkeeping on every access; still mapped, not read.
        arrays = {key: np.asarray(array) for key, array in maps.items()}
        ends = arrays["terminals"]
        if not len(ends) or ends[-1] != 1 or not (ends[np.flatnonzero(ends)] == 1).all():
            raise UserError(f"{directory / 'terminals.npy'}: no episode ends in the last row, or not all by 1; {fix}")
        verified.ensure(directory, card, fix)
        return cls(arrays, card, normalised)

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See ``Source``; actions are clipped to +-ACTION_BOUND."""
        rows = indices + np.searchsorted(self.ends, indices, side="right")  # one row more for each episode before
        arrays = self.raw
        return {
            "observations": arrays["observations"][rows],
            "actions": np.clip(arrays["actions"][rows], -ACTION_BOUND, ACTION_BOUND),
            "rewards": arrays["rewards"][rows],
            "masks": arrays["masks"][rows],
            "terminals": arrays["terminals"][rows + 1],
            "next_observations": arrays["observations"][rows + 1],
        }


def normaliser_of(card: dict, normalised: Normalisation) -> Normaliser:
    """By what a dataset's card holds: the mean and standard deviation, where what never changes is not divided; or the
    middle and half the width of the range, with TRQAM's own 1e-6 added to the width."""
    if not normalised:
        return UNCHANGED
    if normalised == "range":
        if not card.get("observation_min"):
            fix = "write true or false in the domain's block"
            raise UserError(f"{card['dataset']}: normalise_observations: range: its card has no observation_min; {fix}")
        least, most = (np.array(card[key], np.float64) for key in RANGE)
        half = (most - least + 1e-6) / 2
        return Normaliser((least + half).astype(np.float32), half.astype(np.float32))
    mean, std = (np.array(card[f"observation_{name}"], np.float32) for name in ("mean", "std"))
    return Normaliser(mean, np.where(std > 0, std, np.float32(1)))


class Window:
    """One shard of a dataset, followed by whatever follows the dataset (the new transitions of a replay)."""

    def __init__(self, source: Source, dataset: Dataset, number: int):
        """``source`` begins with ``dataset``; shard ``number`` counts round and round."""
        self._source, self._offline = source, dataset.size
        self._start, stop = dataset.shards[number % len(dataset.shards)]
        self._length = stop - self._start
        self.size = self._length + source.size - dataset.size

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See ``Source``."""
        following = self._offline - self._length
        return self._source.gather(indices + np.where(indices < self._length, self._start, following))


def draw_indices(rng: np.random.Generator, size: int, horizon: int, batch: int) -> np.ndarray:
    """First transitions [batch] of chunks, uniform over [0, size - horizon]."""
    return rng.integers(first_transitions(size, horizon), size=batch)


def first_transitions(size: int, horizon: int) -> int:
    """How many chunks of ``horizon`` begin in ``size`` transitions."""
    if size < horizon:
        raise UserError(f"horizon: {horizon} is longer than the data, {size} transitions; shorten it or generate more")
    return size - horizon + 1


def sample_chunks(source: Source, indices: np.ndarray, horizon: int, discount: float) -> dict[str, np.ndarray]:
    """The chunks of ``horizon`` = L transitions that begin at ``indices`` [...], as the authors' sampler makes them.

    For offset i: valid[i] = 1 until the step after a terminal; rewards[i] = sum over valid j <= i of
    discount**j r_j (float64); masks[i] and terminals[i] are the running minimum and maximum; next_observations[i]
    is held at the last valid step; actions[i] are raw and run on into the next episode.
    Returns arrays [..., L] or [..., L, .]; ``observations`` [..., O] of the first step only.
    """
    steps = np.arange(horizon)
    chunk = source.gather(np.asarray(indices)[..., None] + steps)
    terminals = np.maximum.accumulate(chunk["terminals"], axis=-1)
    valid = np.concatenate([np.ones_like(terminals[..., :1]), 1 - terminals[..., :-1]], axis=-1)
    # Powers in float64, products rounded to float32, sum in float64: bit for bit what the authors' sampler gives.
    products = chunk["rewards"] * (discount ** steps.astype(np.float64)).astype(np.float32) * valid
    last_valid = np.minimum(steps, valid.sum(axis=-1, keepdims=True).astype(np.int64) - 1)
    return {
        "observations": chunk["observations"][..., 0, :],
        "actions": chunk["actions"],
        "rewards": products.cumsum(axis=-1, dtype=np.float64),
        "masks": np.minimum.accumulate(np.where(valid > 0, chunk["masks"], 1), axis=-1),
        "terminals": terminals,
        "valid": valid,
        "next_observations": np.take_along_axis(chunk["next_observations"], last_valid[..., None], axis=-2),
    }


def training_batch(chunks: dict[str, np.ndarray], normaliser: Normaliser = UNCHANGED) -> dict[str, np.ndarray]:
    """What an update needs of ``sample_chunks``, float32: normalised observations and next_observations [..., O],
    actions [..., L*A], and the last rewards (the discounted sum), masks and valid [...]."""
    actions = chunks["actions"]
    batch = {key: chunks[key][..., -1] for key in ("rewards", "masks", "valid")}
    batch["observations"] = normaliser(chunks["observations"])
    batch["next_observations"] = normaliser(chunks["next_observations"][..., -1, :])
    batch["actions"] = actions.reshape(*actions.shape[:-2], -1)
    return {key: array.astype(np.float32, copy=False) for key, array in batch.items()}
