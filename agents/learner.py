"""An actor and its critic, with all that training them on needs; and their file."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents import tensors_file
from agents.policy import Policy
from worldmodel.spaces import ActionSpace
from worldmodel.world.world import World

_FORMAT = "worldmodel-actor-critic-1"


class Critic(nn.Module):
    """What a latent state is worth: the discounted rewards that the policy collects from there.

    Args:
        mean: (latent,), subtracted from the state.
        std: (latent,), which it is then divided by.
        hidden: Units of each hidden layer.
    """

    mean: Tensor
    std: Tensor
    offset: Tensor
    unit: Tensor

    def __init__(self, mean: Tensor, std: Tensor, hidden: int) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, value.clone())
        self.register_buffer("offset", mean.new_zeros(()))
        self.register_buffer("unit", mean.new_ones(()))
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(len(mean), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
        )

    def forward(self, state: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Value, in units of the reward."""
        place = self.network((state - self.mean) / self.std).squeeze(-1)
        return self.offset + self.unit * place


class ActorCritic:
    """All that goes on from one training to the next.

    Args:
        policy: The actor.
        critic: Its critic.
        seed: Of training.

    Attributes:
        policy: As given; acts by ``predict``, and is what is kept after training.
        critic: As given.
        slow: A copy of the critic that follows it slowly.
        optimizers: Adam of the policy and of the critic.
        range: () of the returns, moving; NaN before the first update.
        generator: Source of all random numbers of training.
    """

    def __init__(self, policy: Policy, critic: Critic, seed: int) -> None:
        self.policy, self.critic = policy, critic
        self.slow = copy.deepcopy(critic).requires_grad_(False)
        networks = self.policy, self.critic
        self.optimizers = tuple(torch.optim.Adam(network.parameters()) for network in networks)
        device = policy.low.device
        self.range = torch.full((), torch.nan, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)

    @classmethod
    def begin(cls, world: World, hidden: int, seed: int) -> ActorCritic:
        """Untrained, for the states and actions of a world with a fitted support."""
        known, model = world.support.states, world.model
        mean, std = known.mean(0), known.std(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bounds = model.control_range
            policy = Policy(mean, std, model.action_spec, *bounds, hidden, stochastic=True)
            critic = Critic(mean, std, hidden)
        return cls(policy.to(model.device), critic.to(model.device), seed)

    def value(self, states: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
        """What states are worth by the slow critic; ``value`` of a planner's terms."""
        low = self.policy.low
        seen = torch.as_tensor(states, dtype=low.dtype, device=low.device)
        with torch.no_grad():
            return self.slow(seen).cpu().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, copied."""
        tensors = {"range": self.range, "generator": self.generator.get_state()}
        for name, network in self._networks().items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{i}.{index}.{key}": value for key, value in moments.items()}
        # Networks share the normalisation that they began with; a file must not.
        return {name: value.clone() for name, value in tensors.items()}

    def save(self, path: str | Path) -> None:
        """Write all of it to one safetensors file, whole or not at all."""
        metadata = {
            "hidden": str(self.policy.network[0].out_features),
            "actions": json.dumps(self.policy.actions.to_json()),
        }
        tensors_file.write(path, _FORMAT, metadata, self.tensors())

    @classmethod
    def load(cls, path: str | Path) -> ActorCritic:
        """Read what ``save`` wrote; on the CPU.

        Raises:
            FileFormatError: The file is truncated, corrupt, foreign or of another version.
        """
        with tensors_file.opened(path, _FORMAT) as (metadata, tensors):
            actions = ActionSpace.from_json(json.loads(metadata["actions"]))
            return cls.restored(tensors, actions, int(metadata["hidden"]))

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], actions: ActionSpace, hidden: int) -> ActorCritic:
        """What ``tensors`` gave, of networks for these actions, of so many hidden units."""
        mean, std, low, high = (
            tensors[f"policy.{name}"] for name in ("mean", "std", "low", "high")
        )
        policy = Policy(mean, std, actions, low, high, hidden, stochastic=True)
        learner = cls(policy, Critic(mean, std, hidden), 0)
        for name, network in learner._networks().items():
            network.load_state_dict(_below(name, tensors))
        for i, optimizer in enumerate(learner.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(f"adam.{i}", tensors).items():
                index, moment = key.split(".")
                state.setdefault(int(index), {})[moment] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        learner.range = tensors["range"]
        learner.generator.set_state(tensors["generator"])
        return learner

    def _networks(self) -> dict[str, nn.Module]:
        return {"policy": self.policy, "critic": self.critic, "slow": self.slow}


def _below(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with another and a dot, without it."""
    return {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
