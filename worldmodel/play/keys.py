"""The keys: what each does to the game, and what it says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import pygame

from worldmodel.play.session import MODES

if TYPE_CHECKING:
    from worldmodel.play.app import App


@dataclass(frozen=True)
class Command:
    """A key and what it does.

    Attributes:
        label: The key's name.
        does: What it does, in words.
        run: Does it; returns what is to be said about it.
        keys: pygame's constants.
        button: Of a gamepad; None if it has none.
    """

    label: str
    does: str
    run: Callable[[App], str]
    keys: tuple[int, ...]
    button: int | None = None


def _pause(app: App) -> str:
    app.paused = not app.paused
    return "paused" if app.paused else "time goes on"


def _single_step(app: App) -> str:
    app.paused, app.message = True, "one step"
    app.step()
    return app.message


def _next_mode(app: App) -> str:
    modes = list(MODES)
    return app.session.switch(modes[(modes.index(app.session.mode) + 1) % len(modes)])


def _next_state(by: int) -> Callable[[App], str]:
    def run(app: App) -> str:
        chosen = app.session.chosen
        return app.session.reset_to(0 if chosen is None else chosen + by)

    return run


def _next_pair(app: App) -> str:
    app.controls.next_pair()
    first = 2 * app.controls.pair
    size = app.session.model.action_spec.size
    if app.session.model.action_spec.kind == "discrete" or size < 3:
        return "the arrows move all of the action already"
    return f"the arrows move components {first + 1} to {min(first + 2, size)} of the action"


def _next_colour(app: App) -> str:
    return app.screen.cloud.next_variable()


def _screenshot(app: App) -> str:
    buffer = BytesIO()
    pygame.image.save(app.surface, buffer, "screenshot.png")
    return app.recorder.screenshot(buffer.getvalue())


def _help(app: App) -> str:
    app.help = not app.help
    return app.message


def _leave(app: App) -> str:
    if app.help:
        return _help(app)
    app.running = False
    return ""


COMMANDS = (
    Command("Space", "pause, go on", _pause, (pygame.K_SPACE,), 7),
    Command("S", "a single step", _single_step, (pygame.K_s, pygame.K_PERIOD)),
    Command("R", "reset", lambda app: app.session.reset(), (pygame.K_r,), 1),
    Command("Page Down", "reset to the next data state", _next_state(1), (pygame.K_PAGEDOWN,), 5),
    Command("Page Up", "reset to the one before", _next_state(-1), (pygame.K_PAGEUP,), 4),
    Command(
        "Enter",
        "let the dream look: re-synchronise it",
        lambda app: app.session.look(),
        (pygame.K_RETURN, pygame.K_KP_ENTER),
        2,
    ),
    Command("M", "mode: dream, against reality, filter", _next_mode, (pygame.K_m,), 3),
    Command("N", "noise on, off", lambda app: app.session.toggle_noise(), (pygame.K_n,)),
    Command(
        "A",
        "the agent takes over, hands back",
        lambda app: app.session.toggle_agent(),
        (pygame.K_a,),
        0,
    ),
    Command("C", "colour the data states by something else", _next_colour, (pygame.K_c,)),
    Command("Tab", "arrows move other parts of the action", _next_pair, (pygame.K_TAB,)),
    Command("F", "record a film, end it", lambda app: app.recorder.toggle(), (pygame.K_f,)),
    Command("P", "screenshot", _screenshot, (pygame.K_p, pygame.K_PRINTSCREEN)),
    Command("H", "these keys", _help, (pygame.K_h, pygame.K_F1), 6),
    Command("Esc", "quit", _leave, (pygame.K_ESCAPE, pygame.K_q)),
)
HANDS = [
    ("arrows, stick", "act: torque, push; Shift is gentle"),
    ("0 to 9", "choose a discrete action"),
    ("drag, wheel", "turn the latent space, come nearer"),
    ("click", "reset to the data state there"),
]
