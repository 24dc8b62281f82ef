"""Real events through the real loop, without a display; what they changed is looked up."""

from __future__ import annotations

import time
from io import BytesIO

import numpy as np
import pygame
import pytest
from PIL import Image

from worldmodel.play import screen as screen_module
from worldmodel.play.app import App
from worldmodel.play.keys import COMMANDS
from worldmodel.play.pen import DREAM

SIZE = (900, 600)
CENTRE = {"right": pygame.K_RIGHT, "left": pygame.K_LEFT}


class Metronome:
    """A clock on which every frame takes as long as it should, or as long as it is told."""

    def __init__(self) -> None:
        self.late = 0

    def tick(self, framerate: float = 0) -> int:
        late, self.late = self.late, 0
        return late or round(1000 / framerate)


@pytest.fixture
def open_app(pendulum_session, tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    opened = []

    def make(mode="compare", interval=0.1, fps=50, **kwargs) -> App:
        session = pendulum_session(mode, **kwargs)
        app = App(session, "test", interval, tmp_path, SIZE, fps, clock=Metronome())
        opened.append(app)
        return app

    yield make
    for app in opened:
        app.close()


@pytest.fixture
def app(open_app) -> App:
    return open_app()


def frames(app: App, n: int) -> None:
    for _ in range(n):
        app.frame()


def post(app: App, kind: int, **fields) -> None:
    """Through pygame's own queue, and one turn of the loop."""
    pygame.event.post(pygame.event.Event(kind, **fields))
    app.frame()


def press(app: App, key: int) -> None:
    post(app, pygame.KEYDOWN, key=key)
    post(app, pygame.KEYUP, key=key)


def step(app: App) -> None:
    """On to the next step of the world, and no further."""
    before = app.steps
    while app.steps == before:
        app.frame()


@pytest.mark.parametrize(("interval", "fps"), [(0.1, 60), (0.1, 30), (0.05, 60), (0.02, 50)])
def test_the_model_steps_at_its_own_interval(open_app, interval, fps):
    app = open_app(interval=interval, fps=fps)
    frames(app, 4 * fps)
    assert app.steps == pytest.approx(4 / interval, abs=2)
    assert len(app.session.history) == app.steps


def test_an_interval_shorter_than_a_frame_takes_several_steps(open_app):
    app = open_app(interval=0.01, fps=50)
    frames(app, 50)
    assert app.steps == pytest.approx(100, abs=2)


def test_time_that_was_lost_is_not_rushed_through(app):
    app._clock.late = 60_000
    app.frame()
    assert app.steps <= 4
    frames(app, 5)
    assert app.steps <= 5


def test_the_loop_rests_between_frames(pendulum_session, tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    app = App(pendulum_session(), "test", 0.1, tmp_path, SIZE, fps=20)
    app.frame()
    app.paused = True  # what the model's steps take is another matter, and depends on the machine
    begin, busy = time.perf_counter(), time.thread_time()
    app.run(frames=20)
    assert time.perf_counter() - begin > 19 / 20
    assert time.thread_time() - busy < 0.25 * 20 / 20


def test_arrows_are_torque_and_the_pendulum_obeys(app):
    app.session.reset_to(100)
    post(app, pygame.KEYDOWN, key=pygame.K_RIGHT)
    step(app)
    assert app.session.history[-1].action == pytest.approx(5)
    post(app, pygame.KEYDOWN, key=pygame.K_LSHIFT)
    step(app)
    assert app.session.history[-1].action == pytest.approx(1.5)
    post(app, pygame.KEYUP, key=pygame.K_RIGHT)
    step(app)
    assert app.session.history[-1].action == pytest.approx(0)
    post(app, pygame.KEYDOWN, key=pygame.K_LEFT)
    step(app)
    assert app.session.history[-1].action == pytest.approx(-1.5)
    post(app, pygame.WINDOWFOCUSLOST)
    step(app)
    assert app.session.history[-1].action == pytest.approx(0)


def test_opposite_torques_lead_apart(open_app):
    ends = []
    for key in CENTRE.values():
        app = open_app("dream")
        app.session.reset_to(100)
        post(app, pygame.KEYDOWN, key=key)
        for _ in range(5):
            step(app)
        ends.append(app.session.state)
    assert np.abs(ends[0] - ends[1]).max() > 0.5


def test_a_gamepad_is_torque_and_buttons(app):
    post(app, pygame.JOYAXISMOTION, axis=0, value=-0.5, instance_id=0)
    step(app)
    assert app.session.history[-1].action == pytest.approx(-2.5)
    post(app, pygame.JOYAXISMOTION, axis=0, value=0.0, instance_id=0)
    post(app, pygame.JOYHATMOTION, value=(1, 0), instance_id=0)
    step(app)
    assert app.session.history[-1].action == pytest.approx(5)
    post(app, pygame.JOYHATMOTION, value=(0, 0), instance_id=0)
    post(app, pygame.JOYAXISMOTION, axis=1, value=-1.0, instance_id=0)
    step(app)
    assert app.session.history[-1].action == pytest.approx(5), "away from the player is up"
    post(app, pygame.JOYBUTTONDOWN, button=7, instance_id=0)
    assert app.paused
    post(app, pygame.JOYDEVICEREMOVED, instance_id=0)
    assert app.controls.action() == 0


def test_a_gamepad_may_be_plugged_in_and_pulled_out(app, monkeypatch):
    class Pad:
        def __init__(self, index: int) -> None:
            self.index = index

        def get_instance_id(self) -> int:
            return 40 + self.index

        def get_name(self) -> str:
            return f"pad {self.index}"

    monkeypatch.setattr(pygame.joystick, "Joystick", Pad)
    post(app, pygame.JOYDEVICEADDED, device_index=2)
    assert app.message == "gamepad: pad 2" and list(app._pads) == [42], "held, or SDL closes it"
    post(app, pygame.JOYAXISMOTION, axis=0, value=1.0, instance_id=42)
    post(app, pygame.JOYDEVICEREMOVED, instance_id=42)
    assert not app._pads and app.controls.action() == 0, "nobody holds its stick any more"


def test_every_button_of_a_gamepad_does_what_its_key_does(open_app):
    by_button, by_key = open_app(), open_app()
    policy = lambda state: np.array([1.0], np.float32)  # noqa: E731 (shorter than a function)
    by_button.session.policy = by_key.session.policy = policy
    for command in (command for command in COMMANDS if command.button is not None):
        for app, event in (
            (by_button, pygame.event.Event(pygame.JOYBUTTONDOWN, button=command.button)),
            (by_key, pygame.event.Event(pygame.KEYDOWN, key=command.keys[0])),
        ):
            app.handle(event)
        seen = [
            (it.message, it.paused, it.help, it.session.mode, it.session.agent_acts)
            for it in (by_button, by_key)
        ]
        assert seen[0] == seen[1]


def test_tab_says_which_parts_the_arrows_move(app):
    press(app, pygame.K_TAB)
    assert "all of the action already" in app.message and app.controls.pair == 0


def test_pause_and_single_steps(app):
    frames(app, 10)
    press(app, pygame.K_SPACE)
    steps = app.steps
    frames(app, 20)
    assert app.paused and app.steps == steps
    press(app, pygame.K_s)
    frames(app, 20)
    assert app.paused and app.steps == steps + 1
    press(app, pygame.K_SPACE)
    frames(app, 20)
    assert not app.paused and app.steps > steps + 2


def test_a_single_step_pauses(app):
    press(app, pygame.K_s)
    assert app.paused and app.steps == 1 and len(app.session.history) == 1


def test_reset_by_key(app):
    frames(app, 20)
    assert app.session.history
    press(app, pygame.K_r)
    assert not app.session.history and app.session.looking


def test_data_states_by_keys_and_by_click(app):
    press(app, pygame.K_SPACE)
    chosen = []
    for key in (pygame.K_PAGEDOWN, pygame.K_PAGEDOWN, pygame.K_PAGEUP, pygame.K_PAGEUP):
        press(app, key)
        chosen.append(app.session.chosen)
    last = len(app.session.known) - 1
    assert chosen == [0, 1, 0, last]
    np.testing.assert_array_equal(app.session.state, app.session.known.latents[last])
    place = app.screen.layout(SIZE).cloud
    cloud = app.screen.cloud
    seen = cloud.space.view(cloud.space.coordinates(app.session.known.latents), place.size)
    front = int(seen[:, 2].argmax())
    where = place.left + round(seen[front, 0]), place.top + round(seen[front, 1])
    post(app, pygame.MOUSEBUTTONDOWN, button=1, pos=where)
    post(app, pygame.MOUSEBUTTONUP, button=1, pos=where)
    assert app.session.chosen == front
    truth = app.session.known.truths[front]
    np.testing.assert_allclose(app.session.real.unwrapped._state[0], truth, atol=1e-5)


def test_a_click_beside_all_data_states_says_so(app):
    app.frame()
    place = app.screen.layout(SIZE).cloud
    corner = place.left + 3, place.top + 3
    post(app, pygame.MOUSEBUTTONDOWN, button=1, pos=corner)
    post(app, pygame.MOUSEBUTTONUP, button=1, pos=corner)
    assert app.session.chosen is None and app.message == "no data state there"


def test_the_mouse_turns_the_cloud_and_the_wheel_brings_it_nearer(app, monkeypatch):
    space, place = app.screen.cloud.space, app.screen.layout(SIZE).cloud
    before = space.yaw, space.pitch, space.zoom
    post(app, pygame.MOUSEMOTION, pos=place.center, rel=(30, 10), buttons=(0, 0, 0))
    assert (space.yaw, space.pitch) == before[:2], "no button is down"
    post(app, pygame.MOUSEBUTTONDOWN, button=1, pos=place.center)
    post(app, pygame.MOUSEMOTION, pos=place.center, rel=(30, 10), buttons=(1, 0, 0))
    post(app, pygame.MOUSEBUTTONUP, button=1, pos=place.center)
    assert space.yaw > before[0] and space.pitch > before[1]
    assert app.session.chosen is None, "a drag is no click"
    monkeypatch.setattr(pygame.mouse, "get_pos", lambda: place.center)
    post(app, pygame.MOUSEWHEEL, y=1, x=0)
    assert space.zoom > before[2]
    after = space.yaw, space.zoom
    monkeypatch.setattr(pygame.mouse, "get_pos", lambda: (5, 5))
    post(app, pygame.MOUSEWHEEL, y=1, x=0)
    post(app, pygame.MOUSEBUTTONDOWN, button=1, pos=(5, 5))
    post(app, pygame.MOUSEMOTION, pos=place.center, rel=(30, 10), buttons=(1, 0, 0))
    assert (space.yaw, space.zoom) == after, "what is done elsewhere turns nothing"


def test_colours_by_key(app):
    before = app.screen.cloud.seen_from
    press(app, pygame.K_c)
    assert app.screen.cloud.seen_from != before and "velocity" in app.message


def test_modes_noise_and_re_synchronisation_by_keys(app):
    press(app, pygame.K_n)
    assert app.session.noise
    while app.session.blind < 3:
        app.frame()
    press(app, pygame.K_SPACE)
    believed = app.session.history[-1].real_path[1]
    press(app, pygame.K_RETURN)
    np.testing.assert_array_equal(app.session.state, believed)
    modes = []
    for _ in range(3):
        press(app, pygame.K_m)
        modes.append(app.session.mode)
        frames(app, 3)
    assert modes == ["filter", "dream", "compare"]


def test_the_agent_by_key(open_app):
    app = open_app("dream", policy=lambda state: np.array([2.0], np.float32))
    press(app, pygame.K_a)
    step(app)
    assert app.session.history[-1].action == pytest.approx(2)
    press(app, pygame.K_a)
    step(app)
    assert app.session.history[-1].action == pytest.approx(0)


def test_without_an_agent_the_window_says_so(app):
    press(app, pygame.K_a)
    assert "worldmodel agent" in app.message and not app.session.agent_acts


def test_a_film_is_written_whole(app, tmp_path):
    press(app, pygame.K_f)
    for _ in range(12):
        step(app)
    filmed = round(app.recorder.seconds * 10)
    press(app, pygame.K_f)
    app.recorder._writer.shutdown()
    app.frame()
    assert app.message == f"wrote {tmp_path / 'film_1.gif'}"
    with Image.open(tmp_path / "film_1.gif") as film:
        assert film.n_frames == filmed >= 12 and film.info["duration"] == 100


def test_a_film_that_is_still_recorded_when_the_window_closes_is_written(app, tmp_path):
    press(app, pygame.K_f)
    for _ in range(3):
        step(app)
    post(app, pygame.QUIT)
    assert "film_1.gif" in app.run()
    with Image.open(tmp_path / "film_1.gif") as film:
        assert film.n_frames == 3


def test_a_screenshot_is_the_window(app, tmp_path):
    frames(app, 30)
    press(app, pygame.K_SPACE)
    shown = pygame.surfarray.array3d(app.surface).swapaxes(0, 1)
    post(app, pygame.KEYDOWN, key=pygame.K_p)
    with Image.open(BytesIO((tmp_path / "screenshot_1.png").read_bytes())) as image:
        taken = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(taken[40:560], shown[40:560])


def test_the_dreamt_frame_is_shown_crisp(app):
    frames(app, 30)
    place = app.screen.layout(SIZE).frames[0]
    shown = pygame.surfarray.array3d(app.surface).swapaxes(0, 1)
    panel = shown[place.top : place.bottom, place.left : place.right]
    rows, columns = np.nonzero((panel == DREAM).all(-1))
    low = rows > 30  # below the title, whose letters have the border's colour
    top, left = rows[low].min() + 2, columns[low].min() + 2
    inside = panel[top : rows.max() - 1, left : columns.max() - 1]
    factor = len(inside) // 16
    frame = app.session.frame.repeat(3, 2).repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(inside, frame)


def test_help_lies_over_everything_and_goes_away(app):
    press(app, pygame.K_SPACE)
    app.frame()
    before = pygame.surfarray.array3d(app.surface)
    press(app, pygame.K_h)
    assert app.help
    over = (pygame.surfarray.array3d(app.surface) != before).any(-1).mean()
    assert over > 0.15
    press(app, pygame.K_ESCAPE)
    assert not app.help and app.running, "the first Escape closes the help"
    after = pygame.surfarray.array3d(app.surface)
    np.testing.assert_array_equal(after[:, 40:560], before[:, 40:560])


def test_every_command_has_a_key_of_its_own():
    keys = [key for command in COMMANDS for key in command.keys]
    buttons = [command.button for command in COMMANDS if command.button is not None]
    assert len(set(keys)) == len(keys) and len(set(buttons)) == len(buttons)


@pytest.mark.parametrize("size", [(1280, 720), (480, 320), (200, 160), (90, 90)])
def test_the_window_can_be_resized(app, size):
    frames(app, 5)
    post(app, pygame.VIDEORESIZE, size=size, w=size[0], h=size[1])
    frames(app, 30)
    assert app.surface.get_size() == size and app.surface is pygame.display.get_surface()
    layout = app.screen.layout(size)
    shown = pygame.surfarray.array3d(app.surface)
    for place in layout.frames:
        part = shown[place.left : place.right, place.top : place.bottom]
        assert part.max() > 150, "every picture is drawn"


def test_panels_are_painted_when_the_model_has_stepped_and_not_otherwise(app, monkeypatch):
    painted = []
    original = screen_module.paint_trace
    monkeypatch.setattr(
        screen_module, "paint_trace", lambda *what: painted.append(1) or original(*what)
    )
    stamped = []
    stamp = app.screen.cloud._stamp
    monkeypatch.setattr(app.screen.cloud, "_stamp", lambda page: stamped.append(1) or stamp(page))
    app.frame()
    painted.clear()
    frames(app, 50)
    assert app.steps == 10 and len(painted) == 3 * 10
    assert len(stamped) == 1, "the cloud stood still"
    app.screen.cloud.space.turn(0.1, 0.0)
    frames(app, 3)
    assert len(stamped) == 2


def test_a_window_that_was_covered_is_drawn_again(app):
    press(app, pygame.K_SPACE)
    app.frame()
    before = pygame.surfarray.array3d(app.surface)
    app.surface.fill((1, 2, 3))
    post(app, pygame.WINDOWEXPOSED)
    np.testing.assert_array_equal(pygame.surfarray.array3d(app.surface), before)


def test_quitting_closes_everything(app, monkeypatch):
    closed = []
    monkeypatch.setattr(app.session.real, "close", lambda: closed.append(True))
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
    app.run()
    assert closed and not pygame.display.get_init() and not pygame.font.get_init()


def test_an_interrupt_is_a_way_to_leave(app, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "frame", interrupt)
    app.run()
    assert not pygame.display.get_init()


def test_an_error_closes_the_window_too(app, monkeypatch):
    def fail():
        raise ValueError("broken")

    monkeypatch.setattr(app, "frame", fail)
    with pytest.raises(ValueError, match="broken"):
        app.run()
    assert not pygame.display.get_init()


def test_without_a_display_the_cause_is_named(pendulum_session, tmp_path, monkeypatch):
    pygame.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(OSError, match="cannot open a window"):
        App(pendulum_session("dream"), "test", 0.1, tmp_path)
