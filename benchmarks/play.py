"""How smoothly ``worldmodel play`` runs, written to docs/results.md.

    make benchmark-play

Frames per second are counted without a limit, at 1280 x 720 with all panels, in mode "compare",
while the model steps at its own interval: once with the latent space turning in every frame, and
once with every panel painted and the whole window copied in every frame, which never happens in
play, where panels are painted when the model has stepped. What play itself takes is told as the
share of a core at 60 frames a second. Then keys are pressed at random times by another thread, and
the time is taken until the window shows a frame that was dreamt under them. A key waits for the
next step, up to one control interval; "action to frame" is what comes after: step, filter, drawing.
With ``DISPLAY`` set, or under ``xvfb-run``, windows are real ones; else SDL's dummy driver draws
all the same and shows nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pygame
import torch
import tyro
from seeds import write_block

import envs  # noqa: F401 - imported to register the real systems
from worldmodel import load
from worldmodel.cli.play import endless, states_of
from worldmodel.play.app import App
from worldmodel.play.session import Session

SIZE = (1280, 720)
INTERVAL = 0.1


class StampedClock:
    """pygame's clock, and when it last let go."""

    def __init__(self) -> None:
        self._clock = pygame.time.Clock()
        self.let_go = 0.0

    def tick(self, framerate: float = 0) -> int:
        """As pygame's."""
        waited = self._clock.tick(framerate)
        self.let_go = time.perf_counter()
        return waited


def open_app(name: str, clock: StampedClock, out: Path) -> App:
    world = load(name)
    assert world.source is not None
    known = states_of(world, world.source, None, 0)
    session = Session(world, known, endless(world.source).make(), mode="compare")
    return App(session, name, INTERVAL, out, SIZE, clock=clock)


def turn(app: App) -> None:
    """The latent space is painted in every frame."""
    app.screen.cloud.space.turn(0.01, 0.0)


def repaint(app: App) -> None:
    """Every panel is painted, and the whole window copied, in every frame."""
    turn(app)
    app.session.revision += 1
    app.screen.forget()


def frames_per_second(app: App, seconds: float, before: Callable[[App], None]) -> float:
    """Drawn without a limit."""
    app.fps, frames, begin = 0, 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        before(app)
        app.frame()
        frames += 1
    return frames / (time.perf_counter() - begin)


def share_of_a_core(app: App, seconds: float) -> float:
    """As played, at 60 frames a second."""
    app.fps, begin, busy = 60, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        app.frame()
    return (time.process_time() - busy) / (time.perf_counter() - begin)


def press_to_frame(app: App, presses: int, seed: int = 0) -> np.ndarray:
    """Seconds from a key to the frame it led to, (presses,)."""
    app.fps, taken = 60, []
    rng = np.random.default_rng(seed)
    for i in range(presses):
        key, pressed = (pygame.K_RIGHT, pygame.K_LEFT)[i % 2], []

        def press(key: int = key, pressed: list[float] = pressed) -> None:
            pressed.append(time.perf_counter())
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

        app.controls.release()
        threading.Timer(rng.uniform(0.15, 0.35), press).start()
        wanted = (1.0, -1.0)[i % 2]
        while not (pressed and app.session.history and acted(app) == wanted):
            app.frame()
        taken.append(time.perf_counter() - pressed[0])
    return np.array(taken)


def acted(app: App) -> float:
    return float(np.sign(app.session.history[-1].action[0]))


def action_to_frame(app: App, clock: StampedClock, steps: int) -> np.ndarray:
    """Seconds from the moment an action is read to its frame on the screen, (steps,)."""
    app.fps, taken = 60, []
    while len(taken) < steps:
        before = app.steps
        app.frame()
        if app.steps > before:
            taken.append(time.perf_counter() - clock.let_go)
    return np.array(taken)


def spread(seconds: np.ndarray) -> str:
    middle, high, most = 1e3 * np.quantile(seconds, (0.5, 0.95, 1.0))
    return f"{middle:.0f} | {high:.0f} | {most:.0f}"


def main(seconds: float = 5.0, presses: int = 60, write: bool = True) -> None:
    """Measure and write.

    Args:
        seconds: Each count of frames takes.
        presses: Keys pressed, and steps timed.
        write: Whether to write to docs/results.md, or only print.
    """
    torch.set_num_threads(1)
    rows, speeds = [], []
    with TemporaryDirectory() as folder:
        for name in ("pendulum", "ball"):
            clock = StampedClock()
            app = open_app(name, clock, Path(folder))
            share = share_of_a_core(app, seconds)
            turning, anew = (frames_per_second(app, seconds, how) for how in (turn, repaint))
            speeds.append(f"| {name} | {turning:.0f} | {anew:.0f} | {share:.0%} |")
            rows.append(f"| {name}, key to frame | {spread(press_to_frame(app, presses))} |")
            timed = action_to_frame(app, clock, presses)
            rows.append(f"| {name}, action to frame | {spread(timed)} |")
            driver = pygame.display.get_driver()
            app.close()
    text = "\n".join(
        [
            f"`make benchmark-play`: {SIZE[0]} x {SIZE[1]}, all panels, SDL driver {driver}, "
            f"{os.cpu_count()} cores, one thread, no GPU.",
            "",
            "| frames per second | space turned | all painted anew | core used at 60, as played |",
            "|---|---|---|---|",
            *speeds,
            "",
            "| milliseconds, the control interval being 100 | median | 95 % | worst |",
            "|---|---|---|---|",
            *rows,
        ]
    )
    print(text)
    if write:
        write_block("play", text)


if __name__ == "__main__":
    tyro.cli(main)
