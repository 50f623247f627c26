"""The velocity field that behaviour cloning left for a domain, from which methods start."""

import safetensors
import safetensors.torch

from trqam.agents.base import Tensors
from trqam.config.errors import UserError
from trqam.config.load import Config, Run
from trqam.config.reading import sha256
from trqam.experiment.published import read_manifest
from trqam.experiment.run import check_same, pretraining_cell


def load_pretrained(config: Config, run: Run, shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """The field cloned for the run's domain, of these ``shapes``; a UserError if it is not whole, or not today's."""
    cell = pretraining_cell(config, run.domain)
    path, manifest = cell.path / "base.safetensors", cell.path / "pretrain.json"
    again = f"run `python -m trqam pretrain {run.domain}` again"
    if not path.is_file():
        raise UserError(f"{path}: no behaviour-cloned policy here; {again}")
    said = read_manifest(cell, run, "pretrain")
    if said.get("base_sha256") != sha256(path):
        raise UserError(f"{path}: damaged (checksum differs from {manifest.name}); delete it and {again}")
    check_same(said, run, "pretrain", manifest)
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError:
        raise UserError(f"{path}: damaged, not safetensors; delete it and {again}") from None
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise UserError(f"{path}: not the networks that the configuration asks for; delete it and {again}")
    if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path}: holds what is not a finite number; delete it and {again}")
    return tensors
