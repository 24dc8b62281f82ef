"""A policy trained by back-propagating the return through the model.

The dream is differentiable in the action, so the gradient of an imagined return with respect to
the policy's weights is exact up to the model's error: no critic and no likelihood ratio are needed.
Discrete actions are one-hot vectors that the model interpolates; they are sampled by the Gumbel
trick and the gradient is passed straight through to their probabilities.

Source: the pathwise derivative of Heess et al. 2015, "Learning Continuous Control Policies by
Stochastic Value Gradients", SVG(infinity), here on imagined rather than real noise; for discrete
actions Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax". Differs: termination
discounts what comes after it by its probability, so that the return is differentiable in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from worldmodel.errors import FileFormatError, SpecError
from worldmodel.files import write_whole
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace, Stream
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule, recorded_reward
from worldmodel.world.world import World


@dataclass(frozen=True)
class PathwiseConfig:
    """How the policy is trained.

    Attributes:
        updates: Gradient updates.
        batch_size: Imagined trajectories per update.
        horizon: Steps per trajectory.
        discount: Of rewards, per step.
        learning_rate: Of Adam; decays linearly to a tenth.
        max_grad_norm: Greatest norm of the gradient.
        ood_penalty: Reward lost per step and radius of distance outside the support.
        ood_radius: Distance, in radii from the nearest centre, at which a trajectory ends.
        noise_scale: Factor on the process noise. 0 is the dream's mean; more than 1 asks for a
            policy that bears the model's errors too.
        hidden: Units of each of the policy's two hidden layers.
        seed: Of initial weights, start states and process noise.
    """

    updates: int = 300
    batch_size: int = 64
    horizon: int = 25
    discount: float = 0.97
    learning_rate: float = 1e-2
    max_grad_norm: float = 1.0
    ood_penalty: float = 0.3
    ood_radius: float = 3.0
    noise_scale: float = 2.0
    hidden: int = 64
    seed: int = 0


class Policy(nn.Module):
    """Deterministic policy on the latent state, for actions of any space.

    Numbers are bounded by tanh, an index is the likeliest of a softmax, a switch is on where its
    chance is above one half.

    Args:
        mean: (latent,), subtracted from the state.
        std: (latent,), which it is then divided by.
        actions: The environment's.
        low: (act,), least control; finite also where the action has no bound.
        high: (act,), greatest control.
        hidden: Units of each hidden layer.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        actions: ActionSpace,
        low: Tensor,
        high: Tensor,
        hidden: int,
    ) -> None:
        super().__init__()
        self.actions = actions
        self._tensors: list[Tensor] = []
        self._arrays: list[np.ndarray] = []
        self._places: list[int] = []
        for name, value in (("mean", mean), ("std", std), ("low", low), ("high", high)):
            self.register_buffer(name, value.clone())
        self.network = nn.Sequential(
            nn.Linear(len(mean), hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, actions.size),
        )
        # Sizes of what is chosen together: one-hot groups, switches one by one, runs of numbers.
        self._groups = tuple(group for part in actions.parts for group in _groups(part))

    @cached_property
    def _numbers(self) -> np.ndarray:
        return np.repeat([k == "number" for k, _ in self._groups], [n for _, n in self._groups])

    @cached_property
    def _switches(self) -> np.ndarray:
        return np.repeat([k == "switch" for k, _ in self._groups], [n for _, n in self._groups])

    @cached_property
    def draws(self) -> bool:
        """Whether some actions are chosen rather than set, so that noise can choose among them."""
        return any(kind != "number" for kind, _ in self._groups)

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch act"] | None = None,
    ) -> Float[Tensor, "batch act"]:
        """Controls, in the environment's units, one-hot, or 0 and 1.

        Args:
            state: Latent states.
            noise: Gumbel draws that choose among indices, and by their signs' logits switches; None
                takes the likeliest. Numbers have no use for them.
        """
        out = self.network((state - self.mean) / self.std)
        if len(self._groups) == 1 and self._groups[0][0] == "number":
            return _between(self.low, self.high, out.tanh())
        chosen, at = [], 0
        for kind, size in self._groups:
            here = slice(at, at + size)
            part, draw = out[:, here], None if noise is None else noise[:, here]
            if kind == "number":
                chosen.append(_between(self.low[here], self.high[here], part.tanh()))
            elif kind == "switch":
                chosen.append(_switched(part, draw))
            else:
                chosen.append(_indexed(part, draw))
            at += size
        return torch.cat(chosen, 1)

    def predict(
        self, observation: Float[np.ndarray, "*batch latent"], deterministic: bool = True
    ) -> tuple[Any, None]:
        """Act on latent observations; the signature is that of Stable-Baselines3's policies.

        Args:
            observation: Of a latent environment or a filtered real one.
            deterministic: Ignored: this policy always is.

        Returns:
            Actions in the environment's space, in Gymnasium's layout if they are a batch; and None.
        """
        if np.ndim(observation) == 1:
            return self._one(np.asarray(observation)), None
        with torch.no_grad():
            controls = self(torch.as_tensor(observation, dtype=self.low.dtype)).numpy()
        return self.actions.decode(controls), None

    def _one(self, observation: np.ndarray) -> Any:
        """The same for one observation, by numpy: torch takes ten times as long to be called."""
        if self._places != [tensor.data_ptr() for tensor in self._tensors] or not self._places:
            self._look()
        mean, std, low, high, w1, b1, w2, b2, w3, b3 = self._arrays
        hidden = np.tanh(w1 @ ((observation - mean) / std) + b1)
        # Of what is chosen the likeliest has the greatest logit, and a switch is on above zero.
        out = w3 @ np.tanh(w2 @ hidden + b2) + b3
        bounded = _between(low, high, np.tanh(out))
        if self.draws:
            bounded = np.where(self._numbers, bounded, np.where(self._switches, out > 0, out))
        return self.actions.decode(bounded)

    def _look(self) -> None:
        """Views of all tensors' memory, to be made anew where one has moved."""
        self._tensors = [self.mean, self.std, self.low, self.high, *self.network.parameters()]
        self._arrays = [tensor.detach().numpy() for tensor in self._tensors]
        self._places = [tensor.data_ptr() for tensor in self._tensors]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Policy:
        self._places = []
        return super()._apply(fn, recurse)

    def save(self, path: str | Path) -> None:
        """Write weights and sizes to one safetensors file, whole or not at all."""
        metadata = {
            "format": "worldmodel-policy-2",
            "hidden": str(self.network[0].out_features),
            "actions": json.dumps(self.actions.to_json()),
        }
        write_whole(path, serialize(self.state_dict(), metadata))

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read what ``save`` wrote.

        Raises:
            FileFormatError: The file is truncated, corrupt, foreign or of another version.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}
            if metadata.get("format") != "worldmodel-policy-2":
                raise FileFormatError(f"{path} is not a policy: its metadata are {metadata}")
            actions = ActionSpace.from_json(json.loads(metadata["actions"]))
            mean, std, low, high = (weights[n] for n in ("mean", "std", "low", "high"))
            policy = cls(mean, std, actions, low, high, int(metadata["hidden"]))
            policy.load_state_dict(weights)
        except FileFormatError:
            raise
        except (SafetensorError, SpecError, KeyError, RuntimeError, ValueError) as error:
            raise FileFormatError(f"{path} is truncated or corrupt: {error}") from error
        return policy.eval()


def _between(low: Any, high: Any, place: Any) -> Any:
    """From low to high as the place goes from -1 to 1; their difference may overflow."""
    return low / 2 * (1 - place) + high / 2 * (1 + place)


def _groups(part: Stream) -> list[tuple[str, int]]:
    if part.sizes:
        return [("index", size) for size in part.sizes]
    return [("switch" if part.binary else "number", part.size)]


def _indexed(logits: Tensor, noise: Tensor | None) -> Tensor:
    """One-hot, with the gradient of the chances."""
    chances = (logits if noise is None else logits + noise).softmax(1)
    chosen = nn.functional.one_hot(chances.argmax(1), logits.shape[1])
    return chosen + (chances - chances.detach())


def _switched(logits: Tensor, noise: Tensor | None) -> Tensor:
    """0 or 1, with the gradient of the chances."""
    chances = (logits if noise is None else logits + noise).sigmoid()
    return (chances > 0.5).to(chances) + (chances - chances.detach())


def train_policy(
    world: World,
    config: PathwiseConfig,
    progress: bool = True,
    goal: Goal | None = None,
) -> tuple[Policy, list[float]]:
    """Train a policy in the dream alone.

    Trajectories start at states of the training data. Every reward counts with the probability
    that the imagined episode has not yet terminated. Outside the data's support distance costs, and
    its gradient leads back; too far outside the trajectory is given up and every further step earns
    the worst reward recorded, or nothing if all were positive. So no policy is drawn to where the
    model guesses.

    Args:
        world: With a fitted support.
        config: How to train.
        progress: Whether to show a progress bar.
        goal: What to collect; the task by default.

    Returns:
        The policy, and the mean imagined reward per step of every update.

    Raises:
        SpecError: The support is not fitted, or there is no goal and the data had no rewards.
    """
    if not world.support.fitted:
        raise SpecError("the support is not fitted; call world.support.fit first")
    if goal is None:
        world.require_reward()
    generator = torch.Generator(world.model.device).manual_seed(config.seed)
    policy, goal = _build(world, config), goal or recorded_reward(world)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.updates)
    history = []
    for _ in track(range(config.updates), "agent", disable=not progress):
        rewards = imagined_rewards(world, policy, config, generator, goal)
        discount = config.discount ** torch.arange(config.horizon, device=world.model.device)
        loss = -(rewards * discount).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        history.append(rewards.mean().item())
    return policy.eval(), history


def imagined_rewards(
    world: World,
    policy: Policy,
    config: PathwiseConfig,
    generator: torch.Generator,
    goal: Goal,
) -> Float[Tensor, "batch horizon"]:
    """Rewards along trajectories from random states of the data, differentiable in the policy."""
    model, size = world.model, config.batch_size
    dynamics = Dynamics(world, SupportRule(config.ood_penalty, config.ood_radius), goal)
    known, device = world.support.states, model.device
    state = known[torch.randint(len(known), (size,), generator=generator, device=device)]
    lost = torch.zeros(size, dtype=torch.bool, device=device)
    alive = torch.ones(size, device=device)
    rewards = []
    for _ in range(config.horizon):
        noise = torch.randn(size, model.noise_size, generator=generator, device=device)
        action = policy(state, _gumbel(size, model, generator) if policy.draws else None)
        step = dynamics.step(state, action, config.noise_scale * noise)
        lost = lost | ~(step.distance <= config.ood_radius)
        rewards.append(alive * torch.where(lost, goal.outside, step.reward))
        if model.can_terminate:
            alive = torch.where(lost, alive.detach(), alive * (1 - step.logit.sigmoid()))
        # A state that is given up stands still, so that none runs off to infinity and back
        # through the gradient.
        state = torch.where(lost.unsqueeze(1), state.detach(), step.next_state)
    return torch.stack(rewards, 1)


def _gumbel(size: int, model: StateSpaceModel, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(size, model.action_spec.size, generator=generator, device=model.device)
    return -(-uniform.clamp_min(1e-20).log()).log()


def _build(world: World, config: PathwiseConfig) -> Policy:
    known, model = world.support.states, world.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = Policy(
            known.mean(0), known.std(0), model.action_spec, *model.control_range, config.hidden
        )
    return policy.to(model.device)
