"""Principal components of pictures: few numbers that say nearly all of them, the coarse ones first.

What a camera shows of a small system varies in some dozens of ways, however many pixels there are.
Networks that read and draw components cost the same at any resolution; and as the components are
orthonormal, squared errors of components are those of pictures, less what none of them shows.

Where things are thin, a picture shares no bright pixel with the next one, and no error of a pixel
says where to move. The leading components are smooth, and overlap far. Hence *coarse to fine*:
training begins with an error in which components count by a power of their variance, and ends with
all alike, which is the error of the picture itself.

Sources: Tipping and Bishop 1999, "Probabilistic Principal Component Analysis", for the likelihood;
Halko et al. 2011 for the random projections by which torch finds the components.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Directions that are tried beyond those that are kept, and how often they are improved.
_BEYOND, _ITERATIONS = 16, 3


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

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        self.count = min(size, count)
        # Columns: then the product with many pictures is quick.
        self.register_buffer("basis", torch.zeros(size, self.count))
        self.register_buffer("variance", torch.zeros(self.count))
        self.register_buffer("low", torch.zeros(self.count))
        self.register_buffer("high", torch.zeros(self.count))

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

    def keep(self, count: int, spare: int = 0) -> None:
        """Forget all but the leading ones, and leave so many more free, if there are as many."""
        self.count = min(self.count, count + spare)
        self.basis = self.basis[:, : self.count].contiguous()
        self.basis[:, count:] = 0
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
        left = pictures - self.expand(self.project(pictures))
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
        return pictures @ self.basis

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
