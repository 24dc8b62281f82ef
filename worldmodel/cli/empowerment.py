"""``worldmodel empowerment``: a model's map beside the true one, and an agent that lives by it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from agents.empowerment import EmpoweredConfig, dynamics_of, on_its_data, train_empowered
from agents.empowerment.maps import babbled, map_states
from agents.rollout import Acting
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import console, say
from worldmodel.cli.defaults import Found, Hidden
from worldmodel.cli.runs import POLICY
from worldmodel.device import pick_device
from worldmodel.errors import require_at_least
from worldmodel.files import write_json
from worldmodel.plots.acting import film_acting
from worldmodel.plots.empowerment import empowerment_map
from worldmodel.systems import preset_without_reward, system_of
from worldmodel.systems.task import EPISODES, act


def empowerment(
    run: Run,
    out: Path = Path("runs/empowerment"),
    agent: EmpoweredConfig = EmpoweredConfig(),  # noqa: B008 (frozen)
    states: int = 400,
    episodes: int = EPISODES,
    seed: int = 0,
    device: str = "cpu",
    found: Hidden[Found] = Found(),  # noqa: B008 (frozen)
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
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there. The dream's
            step is compiled for the CPU alone.
        found: What the defaults were chosen by.

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
    agent, world = replace(agent, seed=seed), found.checked(run).to(pick_device(device))
    source = world.require_source()
    system = system_of(source.env_id)
    places = babbled(world, states, seed)
    out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {"seed": seed, "agent_config": asdict(agent)}
    visited = None
    if episodes:
        trained = train_empowered(world, agent)
        trained.policy.save(out / POLICY)
        dynamics, known = trained.dynamics, preset_without_reward(system)
        start, film = (known.task_start, known.film_start) if known else (None, None)
        acted = act(trained.policy, world, source, system, start, episodes, seed=seed)
        metrics["agent"], visited = acted.metrics, acted.visited
        film_acting(Acting(trained.policy), world, source, out / "agent.gif", film)
    else:
        dynamics = dynamics_of(on_its_data(world, replace(agent.denoiser, seed=seed)))
    mapped = map_states(places, dynamics, source, agent)
    metrics["empowerment"] = mapped.metrics()
    maps = mapped.truth, mapped.measured, mapped.learned
    empowerment_map(*maps, system.plane, out / "empowerment.png", visited)
    write_json(out / "metrics.json", metrics)
    console().print_json(data=metrics)
    say(f"Look at empowerment.png{' and agent.gif' if episodes else ''} in {out}")
    return metrics
