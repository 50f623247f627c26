"""The written-out passes against autograd's, in double precision: whole or in blocks, alone or stacked."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from trqam.networks import layers
from trqam.networks.layers import Differentiable, Layer, Pullback, forward, run

STACK, ROWS, WIDTHS = 3, 12, (5, 8, 6, 4)


def plain(built: list[Layer], x: torch.Tensor) -> torch.Tensor:
    """What the module promises, in PyTorch's own words."""
    for layer in built:
        x = torch.baddbmm(layer.bias, x, layer.weight)
        if layer.activated:
            x = functional.gelu(x, approximate="tanh")
        if layer.scale is not None:
            x = layer.shift + layer.scale * functional.layer_norm(x, x.shape[-1:], eps=layers.EPSILON)
    return x


def network(norm: bool) -> tuple[list[Layer], list[torch.Tensor], torch.Tensor]:
    """Layers, their parameters in order, and an input."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(STACK, *shape, dtype=torch.float64, generator=generator)

    built = []
    for i, (n_in, n_out) in enumerate(pairwise(WIDTHS)):
        hidden = i < len(WIDTHS) - 2
        rows = [draw(1, n_out) for _ in range(3 if norm and hidden else 1)]
        built.append(Layer(draw(n_in, n_out), *rows, activated=hidden))
    parameters = [p.requires_grad_() for layer in built for p in layer[:4] if p is not None]
    return built, parameters, draw(ROWS, WIDTHS[0])


BLOCKS = {"one block": 2**17, "blocks of rows": 4 * 8 * 2, "small blocks": 3 * 8}


@pytest.fixture(params=[*BLOCKS, "as on a GPU", "as on a GPU, passes apart"])
def block(request, monkeypatch):
    if request.param in BLOCKS:
        monkeypatch.setattr(layers, "BLOCK", BLOCKS[request.param])
    else:
        monkeypatch.setattr(layers, "_in_caches", lambda x: False)
        monkeypatch.setattr(layers, "JOINT", 0 if "apart" in request.param else layers.JOINT)


@pytest.mark.parametrize("norm", [False, True])
def test_output_and_gradients_are_autograds(norm, block):
    built, parameters, x = network(norm)
    x.requires_grad_()
    weights = torch.linspace(-1, 1, STACK * ROWS * WIDTHS[-1], dtype=torch.float64).view(STACK, ROWS, -1)
    expected, found = plain(built, x), run(built, parameters, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), [x, *parameters]),
        torch.autograd.grad((expected * weights).sum(), [x, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_without_a_gradient_to_follow_there_is_no_tape():
    built, parameters, x = network(False)
    with torch.no_grad():
        assert not run(built, parameters, x).requires_grad
    assert not forward([layer._replace(weight=layer.weight.detach()) for layer in built], x, False).blocks[0].records
    frozen = [p.detach() for p in parameters]
    x.requires_grad_()
    found = run(built, frozen, x)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(plain(built, x).sum(), x)[0])


def test_passes_made_one_after_another_are_differentiated_as_one(block):
    built, parameters, x = network(True)
    with torch.no_grad():
        passes = [forward(built, rows, True) for rows in x.split(4, 1)]
    found = Differentiable.of(built, parameters, passes, None)
    expected = plain(built, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("norm", [False, True])
def test_pulling_back_takes_some_rows_and_some_inputs(norm, block):
    built, _, x = network(norm)
    unit, inputs = 4, slice(1, 4)
    with torch.no_grad():
        pull = Pullback(built, x, unit, inputs)
    for i in (2, 0, 1):
        rows = x[:, i * unit : (i + 1) * unit].clone().requires_grad_()
        cotangent = torch.full((STACK, unit, WIDTHS[-1]), 0.5 + i, dtype=torch.float64)
        expected = torch.autograd.grad(plain(built, rows), rows, cotangent)[0][..., inputs]
        with torch.no_grad():
            torch.testing.assert_close(pull(i, cotangent), expected, rtol=1e-11, atol=1e-11)


def test_gelu_and_its_slope_hold_far_from_zero():
    z = torch.cat([torch.linspace(-40, 40, 2001, dtype=torch.float64), torch.tensor([-1e8, 1e8])]).requires_grad_()
    expected = functional.gelu(z, approximate="tanh")
    y, slope = layers._gelu_with_slope(z.detach().clone())
    torch.testing.assert_close(y, expected.detach(), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), z)[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(layers._gelu(z.detach().clone()), expected.detach(), rtol=1e-13, atol=1e-15)
