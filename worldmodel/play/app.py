"""The window: events come in, the session steps at its own interval, panels are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import pygame

from worldmodel.play.controls import Controls, Direction
from worldmodel.play.keys import COMMANDS, HANDS
from worldmodel.play.recorder import Recorder
from worldmodel.play.screen import Screen, Status
from worldmodel.play.session import Session

_TURN = 0.008  # radians per pixel that the mouse is dragged
_CLICK = 4  # pixels that a click may wander
_BEHIND = 4  # steps that a late frame may catch up on; beyond that time is lost, not rushed


@runtime_checkable
class Ticker(Protocol):
    """A ``pygame.time.Clock``."""

    def tick(self, framerate: float = ...) -> int:
        """Wait until the next frame is due; milliseconds since the last."""
        ...


class App:
    """Plays a session in a window until it is closed.

    Args:
        session: What is played; closed with the window.
        name: Of the run, for the caption.
        interval: Seconds per step.
        out: Folder for films and screenshots.
        size: Of the window at first, in pixels.
        fps: Frames drawn per second, at most; 0 draws as many as it can.
        message: To be shown at first.
        clock: Waits for the next frame.

    Attributes:
        paused: Whether time stands still.
        help: Whether the keys are shown.
        steps: How many were taken.
        running: Whether nobody has quit yet.
        message: What the last key did.

    Raises:
        OSError: There is no display to open a window on.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        interval: float,
        out: Path,
        size: tuple[int, int] = (1280, 720),
        fps: int = 60,
        message: str = "",
        clock: Ticker | None = None,
    ) -> None:
        self.session, self.interval, self.fps = session, interval, fps
        try:
            pygame.display.init()
            pygame.display.set_caption(f"{name} - worldmodel play")
            self.surface = pygame.display.set_mode(size, pygame.RESIZABLE)
        except pygame.error as error:
            raise OSError(f"cannot open a window: {error}") from error
        pygame.font.init()
        pygame.joystick.init()
        pygame.key.set_repeat(0)
        self._clock = clock or pygame.time.Clock()
        rows = [(command.label, command.does) for command in COMMANDS] + HANDS
        self.screen = Screen(session, name, interval, rows)
        self.recorder = Recorder(out, 1 / interval)
        self.controls = Controls(
            session.model.action_spec, *(b.cpu().numpy() for b in session.model.control_range)
        )
        self.paused = self.help = False
        self.running, self.steps, self.message = True, 0, message
        self._due = self._since = 0.0
        self._counted, self._rate = 0, fps
        self._pads: dict[int, pygame.joystick.JoystickType] = {}
        self._dragged: float | None = None

    def run(self, frames: int | None = None) -> str:
        """Play until somebody quits, or for some frames; then close everything.

        Returns:
            What is to be said of films that were still being written.
        """
        try:
            while self.running and frames != 0:
                self.frame()
                frames = None if frames is None else frames - 1
        except KeyboardInterrupt:
            pass
        finally:
            said = self.close()
        return said

    def frame(self) -> None:
        """One frame: wait, hear what happened, step if it is time, draw."""
        seconds = self._clock.tick(self.fps) / 1000
        for event in pygame.event.get():
            self.handle(event)
        self._elapse(seconds)
        self._count(seconds)
        self.message = self.recorder.news() or self.message
        if changed := self.screen.draw(self.surface, self._status()):
            pygame.display.update(changed)

    def close(self) -> str:
        """Close window and environment, and wait for films; what is to be said of them."""
        said = self.recorder.close()
        self.session.close()
        pygame.quit()
        return said

    def handle(self, event: pygame.event.Event) -> None:
        """Do what an event asks for."""
        if event.type == pygame.QUIT:
            self.running = False
        elif event.type == pygame.VIDEORESIZE:
            self._resize(event.size)
        elif event.type == pygame.WINDOWEXPOSED:
            self.screen.forget()
        elif event.type == pygame.WINDOWFOCUSLOST:
            self.controls.release()
        elif event.type in (pygame.KEYDOWN, pygame.KEYUP):
            self._key(event.key, event.type == pygame.KEYDOWN)
        elif event.type in _MOUSE:
            self._mouse(event)
        elif event.type in _PAD:
            self._pad(event)

    def step(self) -> None:
        """One step of the session under what is held; a film gets its frame."""
        self.message = self.session.step(self.controls.action()) or self.message
        self.steps += 1
        self._film()

    def _elapse(self, seconds: float) -> None:
        if self.paused:
            return
        self._due = min(self._due + seconds, _BEHIND * self.interval)
        # A clock that counts whole milliseconds must not make a step wait for one more frame.
        while self._due > self.interval - 5e-4:
            self._due -= self.interval
            self.step()

    def _count(self, seconds: float) -> None:
        """Frames per second, told once a second so that they can be read."""
        self._counted, self._since = self._counted + 1, self._since + seconds
        if self._since >= 1:
            self._rate, self._counted, self._since = round(self._counted / self._since), 0, 0.0

    def _film(self) -> None:
        session, artist = self.session, self.screen.artist
        if self.recorder.seconds is not None and not session.ended:
            real = None if session.real_frame is None else artist(session.real_frame)
            self.message = self.recorder.add(artist(session.frame), real) or self.message

    def _status(self) -> Status:
        return Status(
            self.message,
            self.paused,
            self.recorder.seconds,
            self._rate,
            self.help,
        )

    def _resize(self, size: tuple[int, int]) -> None:
        current = pygame.display.get_surface()
        if current is None or current.get_size() != tuple(size):
            current = pygame.display.set_mode(size, pygame.RESIZABLE)
        self.surface = current

    def _key(self, key: int, down: bool) -> None:
        if key in _DIRECTIONS:
            self.controls.hold(_DIRECTIONS[key], down)
        elif key in (pygame.K_LSHIFT, pygame.K_RSHIFT):
            self.controls.gentle = down
        elif down and pygame.K_0 <= key <= pygame.K_9:
            self.controls.choose(key - pygame.K_0)
        elif down:
            for command in COMMANDS:
                if key in command.keys:
                    self.message = command.run(self)

    def _mouse(self, event: pygame.event.Event) -> None:
        place = self.screen.layout(self.surface.get_size()).cloud
        if event.type == pygame.MOUSEMOTION:
            if self._dragged is not None:
                right, down = event.rel
                self._dragged += abs(right) + abs(down)
                self.screen.cloud.space.turn(_TURN * right, _TURN * down)
        elif event.type == pygame.MOUSEWHEEL:
            if place is not None and place.collidepoint(pygame.mouse.get_pos()):
                self.screen.cloud.space.magnify(1.15**event.y)
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            self._dragged = 0.0 if place is not None and place.collidepoint(event.pos) else None
        elif event.type == pygame.MOUSEBUTTONUP and event.button == 1:
            if self._dragged is not None and self._dragged <= _CLICK and place is not None:
                self._pick((event.pos[0] - place.left, event.pos[1] - place.top))
            self._dragged = None

    def _pick(self, place: tuple[int, int]) -> None:
        index = self.screen.cloud.nearest(place)
        self.message = "no data state there" if index is None else self.session.reset_to(index)

    def _pad(self, event: pygame.event.Event) -> None:
        if event.type == pygame.JOYDEVICEADDED:
            pad = pygame.joystick.Joystick(event.device_index)
            # Held on to, for a pad that nobody holds is closed and sends nothing.
            self._pads[pad.get_instance_id()] = pad
            self.message = f"gamepad: {pad.get_name()}"
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._pads.pop(event.instance_id, None)
            self.controls.release()
        elif event.type == pygame.JOYAXISMOTION and event.axis in (0, 1):
            self.controls.tilt(event.axis, -event.value if event.axis else event.value)
        elif event.type == pygame.JOYHATMOTION:
            across, up = event.value
            for direction, held in zip(_HAT, (across < 0, across > 0, up > 0, up < 0), strict=True):
                self.controls.hold(direction, held)
        elif event.type == pygame.JOYBUTTONDOWN:
            for command in COMMANDS:
                if event.button == command.button:
                    self.message = command.run(self)


_DIRECTIONS: dict[int, Direction] = {
    pygame.K_LEFT: "left",
    pygame.K_RIGHT: "right",
    pygame.K_UP: "up",
    pygame.K_DOWN: "down",
}
_HAT: tuple[Direction, ...] = ("left", "right", "up", "down")
_MOUSE = (
    pygame.MOUSEMOTION,
    pygame.MOUSEWHEEL,
    pygame.MOUSEBUTTONDOWN,
    pygame.MOUSEBUTTONUP,
)
_PAD = (
    pygame.JOYDEVICEADDED,
    pygame.JOYDEVICEREMOVED,
    pygame.JOYAXISMOTION,
    pygame.JOYHATMOTION,
    pygame.JOYBUTTONDOWN,
)
