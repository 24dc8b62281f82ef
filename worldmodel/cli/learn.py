"""``worldmodel learn``: act, append, refit, improve, again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from worldmodel import data
from worldmodel.cli.arguments import AnyModelConfig, Env, ModelName, PresetName, parse_kwargs
from worldmodel.cli.console import note, say
from worldmodel.cli.defaults import Found, Hidden
from worldmodel.device import pick_device
from worldmodel.models.registry import MODELS, model_type
from worldmodel.online import learn as loop
from worldmodel.online.config import OnlineConfig
from worldmodel.online.learn import BEST
from worldmodel.online.watching import Watcher
from worldmodel.plots.learning import read_progress
from worldmodel.progress import Progress


def learn(
    env_id: Env,
    run: Path,
    steps: int,
    env_kwargs: str = "{}",
    preset: PresetName = "vectors",
    name: Annotated[ModelName, tyro.conf.arg(name="model")] = "dvbf",
    model: AnyModelConfig = MODELS["dvbf"].config_type(),  # noqa: B008 (frozen)
    config: Annotated[OnlineConfig, tyro.conf.arg(name="")] = OnlineConfig(),  # noqa: B008 (frozen)
    wrapping: tyro.conf.OmitArgPrefixes[data.Wrapping] = data.Wrapping(),  # noqa: B008 (frozen)
    device: str = "cpu",
    threads: int = 1,
    found: Hidden[Found] = Found(),  # noqa: B008 (frozen)
) -> None:
    """Act, append, refit, improve, again; killed and started again, it goes on.

    Args:
        env_id: Gymnasium id of the environment, with its version; "module:id" imports a module
            first. It decides on the defaults of all that follows: give it before ``--help`` to see
            them.
        run: Run folder. Its data grow in RUN/data, RUN/progress.jsonl has a line a round; model
            and agent are those of the last round, RUN/best is a run folder of the round whose
            clean return was the highest.
        steps: Real steps to take in all, those of evaluations not counted. More may be asked for
            later.
        env_kwargs: Arguments of the environment, as JSON.
        preset: Whose model to begin with (``worldmodel presets``).
        name: Which model (docs/models.md). Give it before ``--help`` to see its settings.
        model: The model's settings.
        config: How it is learned.
        wrapping: What to put around the environment.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there. The dream's
            step is compiled for the CPU alone.
        threads: Of torch.
        found: What the defaults were chosen by.
    """
    torch.set_num_threads(threads)
    found.checked(env_id)
    place = pick_device(device)
    source = data.Source(env_id, parse_kwargs(env_kwargs), wrapping)

    def build(observations: Any, actions: Any) -> Any:
        return model_type(name)(model, observations, actions, config.seed).to(place)

    loop.learn(source, run, steps, config, build, preset, Shown(steps))
    say(f"{run}: {steps:,} real steps are reached; worldmodel report {run} shows the curve")
    judged = [row for row in read_progress(run) if row["clean_return"] is not None]
    best = max(judged, key=lambda row: (row["clean_return"], row["round"]))
    if best is not judged[-1]:
        say(
            f"{run / BEST} has the agent of {best['real_steps']:,} steps, whose clean return was "
            f"{best['clean_return']:.4g}; the last one's is {judged[-1]['clean_return']:.4g}"
        )


class Shown(Watcher):
    """A live line in a terminal; elsewhere a line a round, and every ten seconds within.

    Args:
        steps: Real steps in all.
    """

    def __init__(self, steps: int) -> None:
        columns = (
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}"),
        )
        self._bar = Progress(*columns)
        self._task = self._bar.add_task("steps", total=steps, doing="")
        self._last = ""

    def begin(self, run: Path, rows: Sequence[dict[str, Any]], tensorboard: bool) -> None:
        """See the base class."""
        super().begin(run, rows, tensorboard)
        if rows:
            say(f"going on after {rows[-1]['real_steps']:,} steps, round {rows[-1]['round']}")
            self._advance(rows[-1])
        self._bar.start()

    def phase(self, doing: str) -> None:
        """See the base class."""
        self._bar.update(self._task, doing=f"{self._last}  {doing}".strip())

    def note(self, sentence: str) -> None:
        """See the base class."""
        note(sentence)

    def row(self, row: dict[str, Any]) -> None:
        """See the base class."""
        super().row(row)
        self._advance(row)

    def _advance(self, row: dict[str, Any]) -> None:
        told = (
            ("return", row["return"], ".4g"),
            ("clean", row["clean_return"], ".4g"),
            ("trust", row["trust"], ".0%"),
            ("late", row.get("late"), ".0f"),
        )
        self._last = "  ".join(f"{name} {v:{form}}" for name, v, form in told if v is not None)
        self._bar.tell(self._task, completed=row["real_steps"], doing=self._last)

    def close(self) -> None:
        """See the base class."""
        super().close()
        self._bar.stop()
