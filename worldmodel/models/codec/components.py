"""Principal components of pictures: few numbers that say nearly all of them, the coarse ones first.

What a camera shows of a small system varies in some dozens of ways, however many pixels there are.
Networks that read and draw components cost the same at any resolution; and as the components are
orthonormal, squared errors of components are those of pictures, less what none of them shows.

Where things are thin, a picture shares no bright pixel with the next one, and no error of a pixel
says where to move. The leading components are smooth, and overlap far. Hence *coarse to fine*:
training begins with an error in which components count by a power of their variance, and ends with
all alike, which is the error of the picture itself.

Where most of what pictures differ by *stands still* within an episode and is another in each (a
ground, a background), components would say that, and networks learn it by heart. Then components
are found, and read, of what moves: see ``fit_moving``.

Sources: Tipping and Bishop 1999, "Probabilistic Principal Component Analysis", for the likelihood;
Halko et al. 2011 for the random projections by which torch finds the components; Wiener 1949 for
telling apart by covariances what was added up.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Directions that are tried beyond those that are kept, and how often they are improved.
_BEYOND, _ITERATIONS = 16, 3
# Of the covariance of what stands still, what is taken to be of pixels by themselves: of a hundred
# grounds the next one is no mixture. And how much it counts for: what is left of it is learned by
# heart, and what is lost with it of what moves is seen in other frames.
_ALONE, _QUIETER = 0.3, 10.0


class Components(nn.Module):
    """An orthonormal basis, found from data.

    Args:
        size: Scalars of one picture.
        count: Most components.
    """

    basis: Tensor
    variance: Tensor
    low: Tensor
    high: Tensor
    still: Tensor
    mix: Tensor
    heard: Tensor

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        self.count = min(size, count)
        # Columns: then the product with many pictures is quick.
        self.register_buffer("basis", torch.zeros(size, self.count))
        self.register_buffer("variance", torch.zeros(self.count))
        self.register_buffer("low", torch.zeros(self.count))
        self.register_buffer("high", torch.zeros(self.count))
        # Whether something stands still; what components are read by then; and, of what none of
        # them says, by how much every pixel is heard.
        self.register_buffer("still", torch.tensor(False))
        self.register_buffer("mix", torch.eye(self.count))
        self.register_buffer("heard", torch.ones(size))
        self.register_load_state_dict_pre_hook(_as_before)

    @torch.no_grad()
    def fit(self, pictures: Float[Tensor, "n size"], explained: float) -> int:
        """Take the basis from centred pictures; fewer than there are components leave zeros.

        Args:
            pictures: What is to be said.
            explained: Fraction of their variance.

        Returns:
            How many components say that much, or as many as there are; all of them for 1.
        """
        rank = min(*pictures.shape, self.count + _BEYOND)
        # It draws from torch's own generator, and from no other.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = torch.svd_lowrank(pictures, rank, niter=_ITERATIONS)[2][:, : self.count]
        self.basis.zero_()[:, : found.shape[1]] = found
        said = self.project(pictures)
        self.variance.copy_(said.square().mean(0))
        self.low.copy_(said.amin(0))
        self.high.copy_(said.amax(0))
        if explained == 1:
            return self.count
        enough = explained * pictures.square().sum(1).mean()
        return min(int((self.variance.cumsum(0) < enough).sum()) + 1, self.count)

    @torch.no_grad()
    def fit_moving(
        self,
        moving: Float[Tensor, "n size"],
        still: Float[Tensor, "n size"],
        explained: float,
    ) -> int:
        """Take the basis from pictures that are the sum of what moves and of what stands still.

        Components are the best linear estimate of those of what moves, from the picture alone: what
        stands still is heard as little as it tells them apart, and drawn as it is on average.

        Args:
            moving: Less the mean of their episode.
            still: That mean, less the mean of all.
            explained: As in ``fit``.
        """
        quiet = (moving.square().sum() / still.square().sum()).sqrt()
        needed = self.fit(moving + quiet * still, explained)
        basis, n = self.basis[:, :needed], len(moving)
        moved, stood = moving @ basis, still @ basis
        apart, alone = stood.T @ stood / n, still.square().mean(0)
        stands = (1 - _ALONE) * apart + _ALONE * (basis.T * alone) @ basis
        moves = moved.T @ moved / n
        total = moves + _QUIETER * stands
        total.diagonal().add_(1e-6 * total.diagonal().max())
        reading = torch.linalg.solve(total.double(), moves.double()).to(moves)
        said = (moved + stood) @ reading
        axes = torch.linalg.eigh(said.T @ said)[1].flip(1)
        self.basis[:, :needed] = basis @ axes
        self.mix[:needed, :needed] = axes.T @ reading @ axes
        stirred = moving.square().mean(0)
        self.heard.copy_(stirred / (stirred + _QUIETER * alone).clamp_min(1e-12))
        self.still.fill_(True)
        said = said @ axes
        self.variance[:needed] = said.square().mean(0)
        self.low[:needed], self.high[:needed] = said.amin(0), said.amax(0)
        return needed

    def keep(self, count: int, spare: int = 0) -> None:
        """Forget all but the leading ones, and leave so many more free, if there are as many."""
        self.count = min(self.count, count + spare)
        self.basis = self.basis[:, : self.count].contiguous()
        self.basis[:, count:] = 0
        self.mix = self.mix[: self.count, : self.count].contiguous()
        for name in ("variance", "low", "high"):
            values = getattr(self, name)[: self.count].clone()
            values[count:] = 0
            setattr(self, name, values)

    @torch.no_grad()
    def extend(self, pictures: Float[Tensor, "n size"], explained: float) -> None:
        """Let further centred pictures be said by components that are free, as far as there are.

        Those that are not keep their meaning, but for their range.

        Args:
            pictures: What is to be said, too.
            explained: Fraction of their variance that is enough.
        """
        free = (self.variance == 0).nonzero().squeeze(1)
        left = pictures - self.expand(pictures @ self.basis)
        allowed = (1 - explained) * pictures.square().sum()
        rank = min(*left.shape, len(free) + _BEYOND)
        if len(free) and left.square().sum() > allowed:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                found = torch.svd_lowrank(left, rank, niter=_ITERATIONS)[2][:, : len(free)]
            missing = left.square().sum() - (left @ found).square().sum(0).cumsum(0)
            columns = free[: min(int((missing > allowed).sum()) + 1, found.shape[1])]
            self.basis[:, columns] = found[:, : len(columns)]
            self.variance[columns] = (left @ found).square().mean(0)[: len(columns)]
        said = self.project(pictures)
        torch.minimum(self.low, said.amin(0), out=self.low)
        torch.maximum(self.high, said.amax(0), out=self.high)

    def project(self, pictures: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch count"]:
        """Components of centred pictures."""
        return pictures @ self.reading

    @property
    def reading(self) -> Float[Tensor, "size count"]:
        """What a picture is multiplied by."""
        return self.basis @ self.mix if self.still else self.basis

    def missed(self, pictures: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch"]:
        """Squares of centred pictures that no component can say, of what moves in them."""
        said = pictures @ self.basis
        if self.still:
            return ((pictures - self.expand(said)) * self.heard).square().sum(-1)
        return (pictures.square().sum(-1) - said.square().sum(-1)).clamp_min(0)

    def expand(self, components: Float[Tensor, "*batch count"]) -> Float[Tensor, "*batch size"]:
        """Centred pictures."""
        return components @ self.basis.T

    def emphasis(self, exponent: float) -> Float[Tensor, " count"]:
        """Weights by a power of the variance, such that all components together weigh as before."""
        total = self.variance.sum()
        if not total > 0:
            return torch.ones_like(self.variance)
        weights = (self.variance / self.variance.max()).pow(exponent)
        return weights * (total / (weights @ self.variance))


def _as_before(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Checkpoints may be older than these buffers are: then nothing stands still."""
    for name in ("still", "mix", "heard"):
        state_dict.setdefault(prefix + name, getattr(module, name))
