"""Transitions z_{t+1} = f(z_t, u_t, w_t), deterministic given the noise (Karl et al. 2017, eq. 8).

A transition may hold Bayesian weights v: ``draw`` samples them once per batch, ``weight_kl`` is
their cost, and without a draw the posterior mean stands in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.errors import NotCompiled
from worldmodel.models.networks import compiled, mlp, numbers
from worldmodel.models.program import Builder, Rows

# Of a switching gate: factor on its initial output weights, and how much faster than the other
# weights its inverse temperature moves.
_DECIDED = 8.0
# What the logits of a factorial gate begin below zero.
_OFF = 2.0
_PACE = 10.0
Gate = Literal["smooth", "switching", "factorial"]


class Transition(nn.Module, ABC):
    """What a transition owes. Actions arrive scaled to [-1, 1]."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """The next state; ``weights`` as drawn by ``draw``, or None for their posterior mean."""

    @abstractmethod
    def gain(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch noise latent"]:
        """How the noise moves the next state, which is affine in it."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensor | None:
        """One sample of the Bayesian weights, or None if there are none."""

    @abstractmethod
    def weight_kl(self) -> Float[Tensor, ""]:
        """KL(q(v) || p(v)) in nats, for the whole data set."""

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``forward``, at the weights' posterior mean.

        Raises:
            NotCompiled: There are none.
        """
        raise NotCompiled(f"{type(self).__name__} has no compiled form")

    def compiled_gain(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """Instructions of ``gain``, (noise * latent), row by row; errors as for ``compiled``."""
        raise NotCompiled(f"{type(self).__name__} has no compiled gain")


class LocallyLinear(Transition):
    """z' = (1 - leak) z + A z + B u + C w + d, with A, B, C, d mixed from base matrices.

    The mixing weights are a softmax over a network of (z, u), shared by the four. The base matrices
    v have a diagonal Gaussian posterior; their isotropic Gaussian prior N(0, s^2) is estimated
    along with it (empirical Bayes), whose optimum s^2 = E_q[mean of v^2] is closed form.

    Source: Karl et al. 2017, eq. 12. Differs: the residual form, as in the authors' own code; the
    offset d; and the leak. The data fill a manifold in latent space, and nothing in the bound says
    what a state beside it should do. Without a leak it stays beside it or drifts off, and long
    dreams diverge. With it states are drawn in unless the data object, and the offset lets the
    manifold be drawn to where it is rather than to zero.

    Where dynamics switch, as at a wall, the mixing weights must be decided: close to 0 or 1, within
    a narrow strip. A switching gate begins so, and learns an inverse temperature of the softmax in
    large steps; its network is smooth, so that the few transitions seen at a switch are not
    interpolated by kinks.

    A softmax chooses among regimes, of which two balls at four walls have dozens. A factorial gate
    adds them up: the first matrix always counts, and each other one is switched on and off by a
    logistic gate of its own, of the same kind as a switching one. At first most are off.

    Args:
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        noise_size: Dimensions of the process noise.
        matrices: Number M of base matrices.
        hidden: Hidden units of the mixing network.
        init_scale: Standard deviation of the base matrices' initial means.
        coupling: Standard deviation of a random matrix that all base matrices share at first, or
            that the first one begins with if the gate is factorial.
        gate: "smooth", "switching" or "factorial".
        leak: Fraction of the state that is forgotten per step before the matrices act, in [0, 1).
        generator: Source of the initial means.
    """

    def __init__(
        self,
        latent_size: int,
        action_size: int,
        noise_size: int,
        matrices: int,
        hidden: int,
        init_scale: float,
        coupling: float,
        gate: Gate,
        leak: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.leak = leak
        inputs = latent_size + action_size + noise_size + 1
        self.factorial, switching = gate == "factorial", gate != "smooth"
        activation = nn.SiLU if switching else nn.ReLU
        self.mixing = mlp(latent_size + action_size, hidden, matrices, activation)
        self.log_sharpness = nn.Parameter(torch.zeros(())) if switching else None
        if switching:
            with torch.no_grad():
                self.mixing[-1].get_parameter("weight").mul_(_DECIDED)
                self.mixing[-1].get_parameter("bias").sub_(_OFF if self.factorial else 0.0)
        mean = init_scale * torch.randn(matrices, inputs, latent_size, generator=generator)
        coupled = slice(1) if self.factorial else slice(None)
        mean[coupled] += coupling * torch.randn(inputs, latent_size, generator=generator)
        self.mean = nn.Parameter(mean)
        self.log_scale = nn.Parameter(torch.full_like(mean, init_scale / 10).log())

    @property
    def sharpness(self) -> Tensor | float:
        """Inverse temperature of the mixing weights' softmax."""
        return 1.0 if self.log_sharpness is None else (_PACE * self.log_sharpness).exp()

    def weigh(self, logits: Tensor, dim: int) -> Tensor:
        """Mixing weights of the base matrices, which lie along ``dim``."""
        if not self.factorial:
            return logits.softmax(dim)
        always, gates = logits.split([1, logits.shape[dim] - 1], dim)
        return torch.cat([torch.ones_like(always), gates.sigmoid()], dim)

    def _mix(self, known: Tensor, base: Tensor) -> Tensor:
        """Base matrices (matrices, rows, latent) mixed for each state and action."""
        weights = self.weigh(self.sharpness * self.mixing(known), 1)
        return (weights @ base.flatten(1)).view(-1, *base.shape[1:])

    def draw(self, generator: torch.Generator) -> Tensor:
        """Base matrices v ~ q(v), (matrices, latent + act + noise + 1, latent)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.log_scale.exp() * noise

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state; see the class."""
        base = self.mean if weights is None else weights
        known = torch.cat([state, action], 1)
        inputs = torch.cat([known, noise, torch.ones_like(known[:, :1])], 1)
        mixed = self._mix(known, base)
        state, inputs = state.unsqueeze(1), inputs.unsqueeze(1)
        return torch.baddbmm(state, inputs, mixed, beta=1 - self.leak).squeeze(1)

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``forward``."""
        mixed = self.compiled_mixture(builder, state, action, self.mean.detach())
        matrix, offset = mixed.split(mixed.count - state.count, state.count)
        return builder.contract(matrix, builder.join(state, action, noise), offset)

    def compiled_gain(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """Instructions of ``gain``."""
        mixed = self.compiled_mixture(builder, state, action, self.mean.detach())
        before, after = (state.count + action.count) * state.count, state.count
        return mixed.split(before, mixed.count - before - after, after)[1]

    def compiled_mixture(self, builder: Builder, state: Rows, action: Rows, base: Tensor) -> Rows:
        """Base matrices mixed, those of the state with what does not leak of it.

        Args:
            builder: What the instructions are appended to.
            state: That the matrices are mixed for.
            action: Likewise.
            base: (matrices, rows, latent), the state's rows first.

        Returns:
            (rows * latent).
        """
        known = builder.join(state, action)
        logits = compiled(self.mixing, builder, known, scale=torch.as_tensor(self.sharpness))
        base = base.clone()
        # What holds whatever the gate says: mixing weights add up to one, or the first is one.
        always = slice(1) if self.factorial else slice(None)
        base[always, : state.count].diagonal(dim1=1, dim2=2).add_(1 - self.leak)
        matrix = base.flatten(1).T
        if not self.factorial:
            return builder.linear(builder.softmax(logits), numbers(matrix))
        _, gates = logits.split(1, logits.count - 1)
        first, others = matrix[:, 0], matrix[:, 1:]
        return builder.linear(builder.sigmoid(gates), numbers(others), numbers(first))

    def gain(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch noise latent"]:
        """C of the class."""
        base = self.mean if weights is None else weights
        known = torch.cat([state, action], 1)
        return self._mix(known, base[:, known.shape[1] : -1])

    def weight_kl(self) -> Float[Tensor, ""]:
        """KL(q(v) || N(0, s^2)) at the optimal s."""
        second_moment = (self.mean.square() + (2 * self.log_scale).exp()).mean()
        return 0.5 * self.mean.numel() * second_moment.log() - self.log_scale.sum()


class MLPTransition(Transition):
    """z' = (1 - leak) z + L (z, u) + f(z, u) / 10 + C w, f with one hidden layer.

    Source: Karl et al. 2017, fig. 2a, where any transition may stand. Differs: it is residual and
    begins linear. Adam moves a network of a hundred units as a function a hundred times as fast as
    it moves a matrix, and recognition overwrites the states of a transition that does not keep
    still; so L and C are matrices that the velocity can enter by, and the network is slowed down.

    Args:
        latent_size: Dimensions of the state.
        action_size: Components of one action.
        noise_size: Dimensions of the process noise.
        hidden: Hidden units.
        init_scale: Standard deviation of L and C at first.
        leak: As for ``LocallyLinear``.
        generator: Source of the initial L and C.
    """

    def __init__(
        self,
        latent_size: int,
        action_size: int,
        noise_size: int,
        hidden: int,
        init_scale: float,
        leak: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.leak = leak
        inputs = latent_size + action_size
        self.network = mlp(inputs, hidden, latent_size, nn.SiLU)
        first = init_scale * torch.randn(inputs + noise_size, latent_size, generator=generator)
        self.linear, self.noise = nn.Parameter(first[:inputs]), nn.Parameter(first[inputs:])

    def draw(self, generator: torch.Generator) -> None:
        """Point estimates: nothing to draw."""

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        noise: Float[Tensor, "batch noise"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch latent"]:
        """Next state; see the class."""
        known = torch.cat([state, action], 1)
        change = known @ self.linear + 0.1 * self.network(known) + noise @ self.noise
        return (1 - self.leak) * state + change

    def compiled(self, builder: Builder, state: Rows, action: Rows, noise: Rows) -> Rows:
        """Instructions of ``forward``."""
        change = compiled(self.network, builder, builder.join(state, action), scale=0.1)
        matrix = torch.cat([self.linear, self.noise]).detach().clone()
        matrix[: state.count].diagonal().add_(1 - self.leak)
        inputs = builder.join(state, action, noise)
        return builder.add(builder.linear(inputs, numbers(matrix.T)), change)

    def compiled_gain(self, builder: Builder, state: Rows, action: Rows) -> Rows:
        """Instructions of ``gain``."""
        return builder.constant(numbers(self.noise.flatten()))

    def gain(
        self,
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch noise latent"]:
        """C of the class, the same in every state."""
        return self.noise.expand(len(state), -1, -1)

    def weight_kl(self) -> Float[Tensor, ""]:
        """Zero: there are no Bayesian weights."""
        return torch.zeros((), device=self.noise.device)
