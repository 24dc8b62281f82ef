"""What the bundled agents are paid in the dream and in reality, from where the same episodes begin.

    make benchmark-dreamt

A gap is a share of the span from what random actions are paid in reality to what the agent is.
Where it comes from: the same dreams without process noise; such that begin where one frame says,
which is all that a live filter has at first; and what the model pays for the filtered real steps.
Writes the table into docs/results.md.
"""

from __future__ import annotations

import numpy as np
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 (registers the environments that ship)
import worldmodel
from agents.evaluation import Comparison, compare
from agents.policy import Policy
from agents.rollout import rollout
from worldmodel.systems import system_of
from worldmodel.world.checkpoint import BUNDLED
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

STEPS = 100
HEAD = (
    "",
    "random",
    "agent",
    "dreamt",
    "gap, share of the span",
    "dreamt, no noise",
    "dreamt from one frame",
    "reality, as the model pays",
)


def main(
    systems: tuple[str, ...] = ("pendulum", "ball"), episodes: int = 500, seeds: int = 2
) -> None:
    """Run the benchmark.

    Args:
        systems: Names of bundled models.
        episodes: Of every kind under every seed.
        seeds: Of starts and noise, from 0.
    """
    torch.set_num_threads(1)
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for name in systems:
        found = np.mean([returns(name, episodes, seed) for seed in range(seeds)], 0)
        chance, real, dreamt = found[:3]
        share = (dreamt - real) / (real - chance)
        cells = [f"{value:.4g}" for value in found]
        cells.insert(3, f"{share:+.1%}")
        lines.append(f"| **{name}** | {' | '.join(cells)} |")
    text = "\n".join(lines)
    print(text)
    said = f"`make benchmark-dreamt`, {episodes} episodes of {STEPS} steps, seeds 0 to {seeds - 1}"
    write_block("dreamt", f"{said}; torch {torch.__version__}.\n\n{text}")


def returns(name: str, episodes: int, seed: int) -> list[float]:
    """Mean returns, as the columns say, without the gap."""
    world = worldmodel.load(name)
    policy = Policy.load(BUNDLED / name / "policy.safetensors")
    real = world.require_source().make_vec(episodes)
    options = system_of(world.require_source().env_id).task_start(episodes, seed)
    result = compare(policy, world, real, STEPS, seed, options, random=True)
    real.close()
    starts = {"state": result.dream.observations[:, 0]}
    # The live filter's first belief.
    single = {"state": result.real.observations[:, 0]}
    kinds = [(False, starts), (True, single)]
    others = []
    for noise, start in kinds:
        env = LatentVectorEnv(world, num_envs=episodes, noise=noise, truncate_outside=False)
        others.append(rollout(policy, env, STEPS, seed, start))
    acted = (result.random["random"], result.real, result.dream, *others)
    return [*(float(each.returns.mean()) for each in acted), believed(world, result)]


@torch.no_grad()
def believed(world: World, result: Comparison) -> float:
    """What the model pays for the real episodes, as they were filtered."""
    model, real = world.model, result.real
    states = torch.from_numpy(real.observations)
    actions = torch.from_numpy(model.action_spec.encode(real.actions, real.mask.shape))
    return model.reward(states[:, :-1], actions, states[:, 1:]).sum(1).mean().item()


if __name__ == "__main__":
    tyro.cli(main)
