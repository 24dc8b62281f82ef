"""``worldmodel collect``: record an environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.behaviour import behaviour_of
from worldmodel import data, load
from worldmodel.cli.arguments import Env, parse_kwargs
from worldmodel.cli.console import say
from worldmodel.cli.runs import agent_file
from worldmodel.cli.suspicions import note_findings
from worldmodel.data.folders import is_dataset
from worldmodel.data.fulfilling import fulfil
from worldmodel.data.probes import Smooth, Square
from worldmodel.data.requests import Requests
from worldmodel.errors import ConfigError, SpecError
from worldmodel.systems import system_of

_PROCESSES = {**data.PROCESSES, "smooth": Smooth, "square": Square, "zero": data.Zero}
_SHARE = 10  # one of so many episodes is held out of what is somebody else's


@dataclass(frozen=True)
class Acting:
    """Who acts.

    Attributes:
        process: How actions are drawn. "smooth" (sums of slow sines) and "square" (back and forth
            between the bounds) are what ``evaluate`` probes dreams with.
        hold: Steps that an action lasts: of "held" exactly, of "sticky" on average. By default 5.
        policy: Who acts instead: a run with a trained agent, which sees through the run's filter;
            a .zip of Stable-Baselines3, named after its algorithm, that was trained on the same
            environment; or "module:function", from an observation to an action.
        policy_share: Of the episodes that the policy acts in; in the others actions are drawn.
        exploration: Noise on the policy's actions: a standard deviation in half ranges; of what is
            no Box of floats, how often the drawn action is taken instead.
    """

    process: Literal[
        "uniform", "held", "sticky", "ornstein-uhlenbeck", "smooth", "square", "zero"
    ] = "uniform"
    hold: int | None = None
    policy: Annotated[str | None, tyro.conf.arg(metavar="RUN|ZIP|MODULE:FUNCTION")] = None
    policy_share: float = 1.0
    exploration: float = 0.0

    def drawn(self) -> data.ActionProcess:
        """The process.

        Raises:
            ConfigError: It holds nothing, or holds it for less than a step.
        """
        kind = _PROCESSES[self.process]
        if self.hold is None:
            return kind()
        if "steps" not in {field.name for field in fields(kind)}:  # type: ignore[arg-type]
            raise ConfigError(f"--hold is for --process held or sticky, not {self.process}")
        return kind(steps=self.hold)  # type: ignore[call-arg]

    def behaviour(self) -> data.Behaviour | None:
        """The policy, if one is asked for.

        Raises:
            ConfigError: There is none, and something is said of it.
        """
        if self.policy is None:
            if (self.policy_share, self.exploration) != (1.0, 0.0):
                raise ConfigError("--policy-share and --exploration are of a --policy")
            return None
        file = None
        if ":" not in self.policy and not self.policy.endswith(".zip"):
            load(self.policy)  # refused before anything is recorded
            file = agent_file(self.policy)
        return behaviour_of(self.policy, file, self.policy_share, self.exploration)


def collect(
    env_id: Env,
    out: Path,
    env_kwargs: str = "{}",
    reset_options: str | None = None,
    acting: tyro.conf.OmitArgPrefixes[Acting] = Acting(),
    episodes: int = 500,
    held_out: int | None = None,
    steps: int | None = None,
    test_steps: int | None = None,
    num_envs: int = 100,
    workers: int | None = None,
    seed: int = 0,
    wrapping: tyro.conf.OmitArgPrefixes[data.Wrapping] = data.Wrapping(),  # noqa: B008 (frozen)
    requests: Path | None = None,
) -> None:
    """Record an environment under random actions, a policy's, or those that a model asks for.

    Interrupted, it keeps the episodes that were complete.

    Args:
        env_id: Gymnasium id of the environment, with its version; "module:id" imports a module
            first.
        out: Folder to write; a dataset that is there is replaced.
        env_kwargs: Arguments of the environment, as JSON.
        reset_options: Options of every reset, as JSON.
        acting: Who acts.
        episodes: Training episodes.
        held_out: Episodes of validation and of test each; by default a tenth of those for training,
            of the environments that ship as many.
        steps: Steps per training and validation episode, unless it ends before; by default 14 of
            the environments that ship and 100 of others.
        test_steps: Steps per test episode, unless it ends before; more than ``steps``, to measure
            prediction: by default 100 more.
        num_envs: Environments that run at once where they are natively vectorised.
        workers: Processes that run the others; by default as many as there are cores if pictures
            are observed, else one. The data do not depend on it.
        seed: Of everything random.
        wrapping: What to put around the environment.
        requests: File that ``worldmodel evaluate`` wrote: its episodes are recorded, and added to
            the training split of the dataset that is there. It says all but ENV and ``out``.
    """
    if requests is not None:
        _require_alone(locals())
        asked(env_id, out, requests)
        return
    ships = bool(system_of(env_id).presets)
    if held_out is None and not ships:
        held_out = max(1, episodes // _SHARE)
    steps = (14 if ships else 100) if steps is None else steps
    test_steps = steps + 100 if test_steps is None else test_steps
    with _saying_what_stays(out):
        dataset = data.collect(
            env_id,
            parse_kwargs(env_kwargs),
            acting.drawn(),
            data.default_splits(episodes, steps, test_steps, held_out),
            seed=seed,
            options=None if reset_options is None else parse_kwargs(reset_options),
            num_envs=num_envs,
            progress=True,
            wrapping=wrapping,
            out=out,
            workers=workers,
            behaviour=acting.behaviour(),
        )
    say(f"{out}: {dataset.frames('train'):,} training frames of {env_id}")
    note_findings(dataset)
    longest = dataset.test.steps
    if longest < test_steps:
        say(
            f"no test episode lasted {test_steps} steps, the longest {longest}: "
            "predictions will be judged no further"
        )


@contextmanager
def _saying_what_stays(out: Path) -> Iterator[None]:
    """Say after an interruption what the folder holds."""
    before = is_dataset(out)  # which would be replaced at the very end
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if is_dataset(out):
            held = data.load(out)
            kept = ", ".join(f"{name} {len(held.split(name)):,}" for name in held.splits)
            say(f"{out} {'is as it was' if before else 'keeps what was complete'}: {kept} episodes")
        raise


def asked(env_id: str, out: Path, path: Path) -> None:
    """Record what a model asks for, and add it to a dataset."""
    wanted = Requests.read(path)
    if wanted.source.env_id != env_id:
        raise SpecError(f"{path} asks for episodes of {wanted.source.env_id}, not of {env_id}")
    before = data.load(out).frames("train")
    dataset = fulfil(wanted, out, progress=True)
    after = dataset.frames("train")
    say(f"{out}: {after:,} training frames of {env_id}, {after - before:,} of them as asked for")


def _require_alone(given: Mapping[str, object]) -> None:
    """Raise where anything is said that a file of requests says."""
    for name, parameter in signature(collect).parameters.items():
        if name in ("env_id", "out", "requests") or given[name] == parameter.default:
            continue
        raise ConfigError(
            f"--requests says what is recorded but for ENV and --out; got {name} {given[name]!r}"
        )
