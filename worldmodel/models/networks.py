"""The one multi-layer perceptron that every part uses."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import NotCompiled
from worldmodel.models.program import Builder, Rows

# No posterior collapses to a point.
LEAST_SCALE = 1e-4


# Inputs up to which a layer counts as narrow.
_NARROW = 16


class Linear(nn.Linear):
    """A linear layer whose gradient is quick for few inputs, such as a latent state, too.

    The two products of the gradient, of matrices with few columns, take a CPU four times as long if
    those lie along rows of the weights, as they do in torch.
    """

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """As in torch."""
        if self.in_features > _NARROW or not torch.is_grad_enabled():
            return super().forward(input)
        rows = input.reshape(-1, self.in_features)
        product = torch.addmm(self.bias, rows, self.weight.T.contiguous())
        return product.view(*input.shape[:-1], self.out_features)


def mlp(
    inputs: int,
    hidden: int,
    outputs: int,
    activation: type[nn.Module] = nn.ReLU,
    depth: int = 1,
    last: int = 0,
) -> nn.Sequential:
    """One hidden layer, as everywhere in the paper's appendix B, or ``depth`` normalised ones.

    Args:
        inputs: Numbers.
        hidden: Units of a hidden layer.
        outputs: Numbers.
        activation: Of a single hidden layer.
        depth: Hidden layers.
        last: Units of the last one, if there are to be more.
    """
    last = max(hidden, last)
    one = [Linear(inputs, last), activation()]
    layers = one if depth == 1 else normalised(inputs, *[hidden] * (depth - 1), last)
    return nn.Sequential(*layers, nn.Linear(last, outputs))


def normalised(*widths: int) -> list[nn.Module]:
    """Layers that are normalised (Ba et al. 2016) and smooth, from inputs of the first width on.

    In long training at a high learning rate rectified units die; smooth ones alone diverge.
    """
    layers = [(Linear(*pair), nn.LayerNorm(pair[1]), nn.SiLU()) for pair in pairwise(widths)]
    return [part for layer in layers for part in layer]


class Waves(nn.Module):
    """Inputs, and sines of learned linear functions of them.

    The functions begin as if drawn for inputs of unit variance: some waves are a few units long,
    and none is so short that neighbouring states would have nothing in common, however many inputs
    there are.

    Source: Tancik et al. 2020, "Fourier Features Let Networks Learn High Frequency Functions in
    Low Dimensional Domains". Differs: frequencies are learned.

    Args:
        inputs: Numbers.
        count: Sines.
    """

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        self.phase = Linear(inputs, count)
        nn.init.normal_(self.phase.weight, std=min(1.0, math.sqrt(2 / inputs)))
        nn.init.uniform_(self.phase.bias, 0, 2 * math.pi)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """See the class."""
        return torch.cat([inputs, self.phase(inputs).sin()], -1)

    def compiled(self, builder: Builder, inputs: Rows) -> Rows:
        """Instructions of ``forward``."""
        return builder.join(inputs, builder.sin(compiled(self.phase, builder, inputs)))


def numbers(tensor: Tensor) -> np.ndarray:
    """A copy without gradient, on the CPU."""
    return tensor.detach().cpu().numpy().copy()


def compiled(
    network: nn.Module, builder: Builder, x: Rows, scale: Tensor | float = 1.0, shift: float = 0.0
) -> Rows:
    """Instructions of a network of layers that follow each other.

    Args:
        network: An ``nn.Sequential``, perhaps nested, or a single layer.
        builder: What they are appended to.
        x: What the network is applied to.
        scale: Of the result, one for each of its numbers or for all, folded into a last linear
            layer.
        shift: Added to the result thereafter.

    Raises:
        NotCompiled: A layer is of a kind that has no compiled form, such as a convolution; one
            that is not torch's may have a method ``compiled(builder, x)``.
    """
    layers = _layers(network)
    for layer, following in zip(layers, [*layers, None][1:], strict=True):
        if isinstance(layer, nn.Linear):
            matrix, bias = layer.weight, torch.zeros(1) if layer.bias is None else layer.bias
            if following is None:
                each = torch.as_tensor(scale)
                matrix, bias = (each * matrix.T).T, each * bias + shift
            relu = isinstance(following, nn.ReLU)
            x = builder.linear(x, numbers(matrix), numbers(bias), relu)
        elif isinstance(layer, nn.LayerNorm):
            x = builder.normalise(x, numbers(layer.weight), numbers(layer.bias), layer.eps)
        elif type(layer) in (nn.SiLU, nn.Tanh, nn.Sigmoid):
            x = getattr(builder, type(layer).__name__.lower())(x)
        elif (own := getattr(layer, "compiled", None)) is not None:
            x = own(builder, x)
        elif not isinstance(layer, nn.ReLU):
            raise NotCompiled(f"a layer {type(layer).__name__} has no compiled form")
    return x


def _layers(network: nn.Module) -> list[nn.Module]:
    if isinstance(network, nn.Sequential):
        return [layer for part in network for layer in _layers(part)]
    return [] if isinstance(network, nn.Identity) else [network]


def compiled_positive(builder: Builder, raw: Rows) -> Rows:
    """Instructions of ``positive``."""
    return builder.affine(builder.softplus(raw), 1.0, LEAST_SCALE)


def positive(raw: Tensor) -> Tensor:
    """Smooth map to scales: softplus, floored at ``LEAST_SCALE``."""
    return nn.functional.softplus(raw) + LEAST_SCALE


def raw_scale(scale: float) -> float:
    """What ``positive`` maps to a scale above ``LEAST_SCALE``."""
    above = scale - LEAST_SCALE
    return above + math.log(-math.expm1(-above))  # the inverse of softplus, of large ones too


def standard_normal_kl(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, scale) || N(0, 1)) in nats, summed over the last axis."""
    return 0.5 * (mean.square() + scale.square() - 1).sum(-1) - scale.log().sum(-1)


def normal_kl(mean: Tensor, scale: Tensor, prior_mean: Tensor, prior_scale: Tensor) -> Tensor:
    """KL(N(mean, scale) || N(prior_mean, prior_scale)) in nats, summed over the last axis."""
    return standard_normal_kl((mean - prior_mean) / prior_scale, scale / prior_scale)


def kl_to_diagonal(
    mean: Tensor, covariance: Tensor, prior_mean: Tensor, prior_scale: Tensor
) -> Tensor:
    """KL(N(mean, covariance) || N(prior_mean, diag(prior_scale^2))) in nats, over the last axes."""
    precision = prior_scale.square().reciprocal()
    trace = (covariance.diagonal(dim1=-2, dim2=-1) * precision).sum(-1)
    distance = ((prior_mean - mean).square() * precision).sum(-1)
    # Without an exception where it is not finite: the trainer says better where that came from.
    factor = torch.linalg.cholesky_ex(covariance).L
    half_log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    size = mean.shape[-1]
    return 0.5 * (trace + distance - size) + prior_scale.log().sum(-1) - half_log_determinant


def normal_entropy(scale: Tensor) -> Tensor:
    """Entropy of N(., scale) in nats, summed over the last axis."""
    constant = 0.5 * (1 + math.log(2 * math.pi))
    return (scale.log() + constant).sum(-1)
