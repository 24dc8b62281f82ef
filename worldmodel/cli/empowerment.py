"""``worldmodel empowerment``: a model's map beside the true one, and an agent that lives by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from agents.empowerment import (
    Dynamics,
    EmpoweredConfig,
    dynamics_of,
    train_empowered,
)
from agents.empowerment.agent import ESTIMATORS
from agents.empowerment.measured import measured_empowerment, measured_sampled
from worldmodel import data, load
from worldmodel.cli.acting import EPISODES, Acted, act, film_agent
from worldmodel.cli.runs import POLICY, source_of
from worldmodel.cli.systems import System, recipe_without_reward, system_of
from worldmodel.errors import SpecError, require_at_least
from worldmodel.files import write_json
from worldmodel.plots.style import (
    SEQUENTIAL,
    VERMILION,
    angle_ticks,
    colour_bar,
    dress,
    figure,
    label,
    save,
)
from worldmodel.world.denoiser import fit_denoiser
from worldmodel.world.world import World

# Steps of random actions before a state is judged: enough for the filter to know it, and too few to
# leave where episodes begin.
_WARM = 5
_DRAWN = 10  # episodes of the agent whose states are drawn on the map
_MEASURED = {"gaussian": measured_empowerment, "sampled": measured_sampled}


class Places(NamedTuple):
    """Real states (n, m), and the filter's beliefs (n, latent) about them."""

    truth: np.ndarray
    latents: Tensor


@dataclass(frozen=True)
class Map:
    """Empowerment of states of the real system, as itself and as a model has it.

    Attributes:
        truth: (n, m), the states.
        measured: (n,), of the real system, nats.
        learned: (n,), of the model, nats.
    """

    truth: np.ndarray
    measured: np.ndarray
    learned: np.ndarray

    def metrics(self) -> dict[str, Any]:
        """How alike the two rank the states, and their ranges."""
        return {
            "spearman": rank_correlation(self.learned, self.measured),
            "states": len(self.truth),
            "learned_nats": _range(self.learned),
            "true_nats": _range(self.measured),
        }


def empowerment(
    run: str,
    out: Path = Path("runs/empowerment"),
    agent: EmpoweredConfig = EmpoweredConfig(),  # noqa: B008 (frozen)
    states: int = 400,
    episodes: int = EPISODES,
    seed: int = 0,
) -> dict[str, Any]:
    """Map empowerment over states of the real system, and train an agent on nothing else.

    The same estimator judges the model and the true system: a Gaussian channel, linearised around
    doing nothing or fitted to random actions, with noise on the last observations. Of the true
    system it is measured, in environments set to each state; the model is kept on its data by a
    denoiser. States are those that random actions lead to. The agent is trained in the dream and
    judged and filmed in reality; states that it comes to are drawn on the map.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one. It decides on the defaults of
            ``agent``: give it before ``--help`` to see them.
        out: Folder for empowerment.png, agent.gif, policy.safetensors and metrics.json.
        agent: What empowerment is, and how the agent is trained; its seed is ``seed``.
        states: How many are judged.
        episodes: Real ones that the agent is judged on; 0 trains none and draws the map alone.
        seed: Of everything random.

    Returns:
        What is also written to ``metrics.json``.

    Raises:
        SpecError: The model does not know its environment, its actions are no Box, its support is
            not fitted, or the environment does not tell its state.
        ConfigError: Process noise is asked for, which the real system has none of.
    """
    require_at_least(2, states=states)
    require_at_least(0, episodes=episodes)
    torch.set_num_threads(1)
    agent = replace(agent, seed=seed)
    world = load(run)
    source = source_of(world)
    system = system_of(source.env_id)
    places = babbled(world, states, seed)
    out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {"seed": seed, "agent_config": asdict(agent)}
    acted = None
    if episodes:
        trained = train_empowered(world, agent)
        trained.policy.save(out / POLICY)
        known = recipe_without_reward(system)
        start, film = (known.task_start, known.film_start) if known else (None, None)
        acted = act(trained.policy, world, source, system, start, episodes, seed)
        metrics["agent"], dynamics = acted.metrics, trained.dynamics
        film_agent(trained.policy, world, source, out / "agent.gif", film)
    else:
        denoiser = fit_denoiser(world.support.states, replace(agent.denoiser, seed=seed))
        dynamics = dynamics_of(world.denoised_by(denoiser))
    found = map_states(places, dynamics, source, agent)
    metrics["empowerment"] = found.metrics()
    draw_map(found, system, out / "empowerment.png", visited(acted) if acted else None)
    write_json(out / "metrics.json", metrics)
    console = Console()
    console.print_json(data=metrics)
    console.print(f"Look at empowerment.png{' and agent.gif' if acted else ''} in {out}")
    return metrics


@torch.no_grad()
def babbled(world: World, states: int = 400, seed: int = 0) -> Places:
    """Real states that random actions lead to.

    Args:
        world: Whose filter and environment are used.
        states: How many.
        seed: Of the random actions.

    Raises:
        SpecError: The model does not know its environment, or that does not tell its state.
    """
    source = source_of(world)
    env = source.make_vec(states)
    batch = data.record(env, states, _WARM, data.Uniform(), seed, progress=True)
    env.close()
    if batch.states is None:
        raise SpecError(f"{source.env_id} does not tell its state in info['state']")
    latents = world.filter(batch.observations.numpy(), batch.actions.numpy())[:, -1]
    truth = batch.states[:, -1].double().numpy()
    return Places(truth, torch.as_tensor(latents, dtype=world.model.dtype))


@torch.no_grad()
def map_states(
    places: Places, dynamics: Dynamics, source: data.Source, config: EmpoweredConfig
) -> Map:
    """Judge states by one estimator, in the real system and in the dream.

    Args:
        places: The states.
        dynamics: The dream, as it is to be judged.
        source: Makes the real system.
        config: Says what empowerment is: estimator, steps and noise.

    Raises:
        ConfigError: Process noise is asked for, which the real system has none of.
    """
    judge = ESTIMATORS[config.estimator](dynamics, config.steps, config.noise)
    learned = judge(places.latents).numpy()
    with Progress() as bar:
        task = bar.add_task("true system", total=len(places.truth))
        measured = _MEASURED[config.estimator](
            source.make_vec,
            places.truth,
            config.steps,
            config.noise,
            progress=lambda done: bar.update(task, completed=done),
        )
    return Map(places.truth, measured, learned)


def visited(acted: Acted) -> np.ndarray:
    """States (k, m) of the first real episodes of an agent, of an environment that tells them."""
    states = acted.result.real.states
    assert states is not None, "known since states were babbled"
    return states[:_DRAWN].reshape(-1, states.shape[-1])


def _range(nats: np.ndarray) -> dict[str, float]:
    return {"least": float(nats.min()), "greatest": float(nats.max())}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, which no two values share in practice."""
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def draw_map(found: Map, system: System, path: Path, visited: np.ndarray | None = None) -> Path:
    """Two panels over the first two variables of the state, the true system and the model.

    Args:
        found: What is shown.
        system: Names the variables.
        path: Of the picture.
        visited: (k, m), states that an agent came to, drawn on top.
    """
    across, up = system.plane
    panels = {"true system": found.measured, "learned model": found.learned}
    fig = figure(8.4, 3.6)
    for axes, (title, nats) in zip(fig.subplots(1, 2), panels.items(), strict=True):
        points = axes.scatter(found.truth[:, 0], found.truth[:, 1], c=nats, s=14, cmap=SEQUENTIAL)
        if visited is not None:
            axes.scatter(visited[:, 0], visited[:, 1], c=VERMILION, s=1.5, linewidths=0)
            title = f"{title}; red: the agent"
        dress(axes, label(across), label(up), title)
        if across == "angle":
            angle_ticks(axes.xaxis)
        colour_bar(fig, points, axes, label("empowerment"))
    return save(fig, path)
