"""Reading stores in tests, and writing their rows as OGBench does."""

import numpy as np

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
