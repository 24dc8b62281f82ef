"""What is played: a dream, reality beside it, and who acts. No window, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import DivergenceError, SpecError
from worldmodel.play.data_states import DataStates
from worldmodel.world.actions import ActionReader
from worldmodel.world.artist import Artist
from worldmodel.world.beliefs import Filter
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.world import World

Mode = Literal["dream", "compare", "filter"]
MODES: dict[Mode, str] = {
    "dream": "dream alone",
    "compare": "dream against reality",
    "filter": "filter following reality",
}
# Steps that a dream beside reality begins closed loop with: one frame shows no velocity.
LOOKING = 10
SPAN = 600  # steps that are remembered


@dataclass(frozen=True)
class Moment:
    """One step, as it is traced. A reward is NaN where nobody paid one.

    Attributes:
        action: As the model takes it, (act,).
        reward: The model's.
        real_reward: The real environment's.
        distance: From the data, in the support's radii: inside up to 1.
        path: The shown state before and after, (2, latent).
        real_path: What the filter believed before and after, or None.
    """

    action: np.ndarray
    reward: float
    real_reward: float
    distance: float
    path: np.ndarray
    real_path: np.ndarray | None


class Session:
    """A game in one of three modes.

    "dream" steps the model alone. "compare" steps the model and the real environment by the same
    actions; after a reset the dream looks at the first frames, then runs open loop until ``look``.
    "filter" shows what the model believes of the real environment, frame by frame.

    Methods that a key calls return what is to be said about it.

    Args:
        world: With a fitted support; its model is switched to evaluation mode.
        known: States to start from.
        real: The environment that the model was trained on, or None; it belongs to the session.
        policy: From a latent state (latent,) to an action of the environment, or None.
        mode: To begin with.
        noise: Whether dreams have the model's process noise.
        seed: Of starts and noise.
        action_unit: In which actions are, for whoever traces them; empty if nobody knows.

    Attributes:
        state: The latent state shown, (latent,), unclipped.
        frame: The observation that the model makes of it.
        distance: Of that state from the data, in radii of the support: inside up to 1.
        real_frame: The real environment's, or None in mode "dream".
        history: The last steps since the reset, oldest first.
        blind: Steps since the dream last looked at reality.
        ended: Why there are no more steps until a reset; empty while there are.
        revision: Grows with every change of what is above.
        chosen: Index of the data state that was last started from, or None.

    Raises:
        SpecError: ``mode`` needs a reality, the environment's spaces are not the model's, or the
            support is not fitted.
    """

    def __init__(
        self,
        world: World,
        known: DataStates,
        real: gym.Env | None = None,
        policy: Callable[[np.ndarray], np.ndarray] | None = None,
        mode: Mode = "dream",
        noise: bool = False,
        seed: int = 0,
        action_unit: str = "",
    ) -> None:
        if real is None and mode != "dream":
            raise SpecError(f"mode {mode!r} needs the real environment, and there is none")
        self.world, self.model = world, world.model
        self.known, self.real, self.policy = known, real, policy
        self.mode: Mode = mode
        self.noise, self.agent_acts = noise, False
        self.action_unit = action_unit
        self.history: deque[Moment] = deque(maxlen=SPAN)
        self.blind, self.ended, self.revision = 0, "", 0
        self.chosen: int | None = None
        self.real_frame: dict[str, np.ndarray] | None = None
        self._artist = Artist(world, known.latents)
        self._looking = 0
        self._dynamics, self._box = Dynamics(world), latent_box(world)
        self._read = ActionReader(self.model.action_spec, (), self.model.device, self.model.dtype)
        self._filter = real and Filter(world, real.observation_space, real.action_space, ())
        self._generator = torch.Generator(self.model.device).manual_seed(seed)
        self._seed: int | None = seed
        self._state = world.support.states[:1].clone()
        self.reset()

    @property
    def state(self) -> np.ndarray:
        """The latent state shown."""
        return self._state[0].cpu().numpy()

    @property
    def looking(self) -> bool:
        """Whether the state shown comes from looking at reality."""
        return self.mode == "filter" or (self.mode == "compare" and self._looking > 0)

    def reset(self) -> str:
        """Begin anew: where the model's prior says, or where reality begins."""
        self.chosen = None
        if self.mode == "dream":
            return self._begin(self._dynamics.reset(1, self._generator), "a new dream")
        real, belief = self._reality()
        frame, _ = real.reset(seed=self._seed)
        self._seed, self._looking = None, LOOKING
        self.real_frame = self._seen(frame)
        belief.begin(frame)
        return self._begin(self._believed(), "a new episode")

    def reset_to(self, index: int) -> str:
        """Begin at a data state, and put reality there too, if it can be.

        Args:
            index: Of ``known``, counted around.
        """
        self.chosen = index % len(self.known)
        belief = self.known.belief(self.chosen, self.model)
        said = f"data state {self.chosen + 1} of {len(self.known)}"
        self._looking = 0
        if self.mode != "dream":
            if self._put_reality(self.chosen):
                self._reality()[1].resume(belief)
            else:
                self.mode, self.real_frame = "dream", None
                said += "; reality cannot be put there, so this is the dream alone"
        return self._begin(belief.mean.clone(), said)

    def look(self) -> str:
        """Set the dream to what the filter believes of reality."""
        if self.mode != "compare":
            only = MODES["compare"]
            return f"only a {only} can be re-synchronised"
        if self.ended:
            return self.ended
        self._state, self.blind, self._looking = self._believed(), 0, 0
        self._changed()
        return "the dream looked at reality"

    def switch(self, mode: Mode) -> str:
        """Change the mode, going on from the state that is shown where there is a way to.

        A reality that stood still meanwhile begins a new episode.
        """
        if self.real is None and mode != "dream":
            return "there is no real environment to compare with"
        was, self.mode, self._looking = self.mode, mode, 0
        if was == "dream" and mode != "dream":
            self.reset()
        elif mode == "dream":
            self.real_frame, self.ended = None, ""
        elif mode == "filter" and not self.ended:
            self._state = self._believed()
        self.blind = 0
        self._changed()
        return MODES[mode]

    def toggle_noise(self) -> str:
        """Dream with or without process noise."""
        self.noise = not self.noise
        self._changed()
        return f"process noise {'on' if self.noise else 'off'}"

    def toggle_agent(self) -> str:
        """Let the agent act, or take over from it."""
        if self.policy is None:
            return "there is no agent: train one by `worldmodel agent`, then name it by --policy"
        self.agent_acts = not self.agent_acts
        self._changed()
        return "the agent acts" if self.agent_acts else "you act"

    def step(self, action: Any) -> str:
        """One control interval, by this action or the agent's; nothing once the episode has ended.

        Returns:
            Why the episode ended, if it did now.
        """
        if self.ended:
            return ""
        if self.agent_acts and self.policy is not None:
            # Beside reality the agent sees reality, through the filter, as it does when it is used.
            seen = self._state if self.mode == "dream" else self._believed()
            latent = np.clip(seen[0].cpu().numpy(), self._box.low, self._box.high)
            action = self.policy(latent.astype(np.float32))
        try:
            with torch.inference_mode():
                self._advance(self._read(action).unsqueeze(0))
        except DivergenceError as error:
            self.ended = f"diverged: {error}"
        self._changed()
        return self.ended

    def close(self) -> None:
        """Close the real environment."""
        if self.real is not None:
            self.real.close()

    def _advance(self, control: Tensor) -> None:
        before, real_before, paid = self._state, None, float("nan")
        if self.mode != "dream":
            real_before = self._believed()
            paid = self._step_reality(control)
        if self.looking:
            arrived = self._believed()
            reward = float(self.model.reward(before, control, arrived))
            self._looking, self.blind = max(self._looking - 1, 0), 0
        else:
            arrived, reward = self._dream(control)
            self.blind += 1
        self._state = arrived
        real_path = None if real_before is None else torch.cat([real_before, self._believed()])
        self.history.append(
            Moment(
                control[0].cpu().numpy(),
                reward,
                paid,
                self._away(arrived),
                torch.cat([before, arrived]).cpu().numpy(),
                None if real_path is None else real_path.cpu().numpy(),
            )
        )

    def _dream(self, control: Tensor) -> tuple[Tensor, float]:
        noise = None
        if self.noise:
            noise = self._dynamics.draw(1, 1, self._generator)[:, :, 0]
        step = self._dynamics.step(self._state, control, noise)
        if not step.next_state.isfinite().all():
            raise DivergenceError("the model dreamt a state that is not finite")
        if bool(step.terminated):
            self.ended = "the dream holds that the episode has ended"
        return step.next_state, float(step.reward)

    def _step_reality(self, control: Tensor) -> float:
        real, belief = self._reality()
        action = self.model.action_spec.decode(control.cpu().numpy()[0])
        frame, paid, terminated, truncated, _ = real.step(action)
        self.real_frame = self._seen(frame)
        belief.advance(action, frame)
        if terminated or truncated:
            self.ended = "the real episode has ended"
        return float(paid)

    def _put_reality(self, index: int) -> bool:
        """Whether a reset to the recorded truth shows the recorded frame.

        Environments may ignore reset options that they do not know: only the frame tells.
        """
        frames = self.known.frames
        if self.known.truths is None or frames is None:
            return False
        real, _ = self._reality()
        try:
            frame, _ = real.reset(options={"state": self.known.truths[index].astype(np.float64)})
        except (ValueError, TypeError, KeyError):
            return False
        self.real_frame = self._seen(frame)
        # The truth was recorded in single precision, which may move a pixel by a grey level.
        return all(
            (np.abs(self.real_frame[s.name] - frames[s.name][index].astype(float)) <= s.slack).all()
            for s in self.model.observation_spec.streams
        )

    def _begin(self, state: Tensor, said: str) -> str:
        self._state, self.blind, self.ended = state, 0, ""
        self.history.clear()
        self._changed()
        return said

    def _changed(self) -> None:
        self.revision += 1
        self.frame = self._artist.named(self.world.decode(self._state.cpu().numpy()[0]))
        self.distance = self._away(self._state)

    def _seen(self, frame: Any) -> dict[str, np.ndarray]:
        """An observation of reality as it would be recorded, by stream."""
        return self.model.observation_spec.read(frame)

    def _away(self, state: Tensor) -> float:
        return float(self.world.distance(state)[0])

    def _reality(self) -> tuple[gym.Env, Filter]:
        assert self.real is not None and self._filter is not None, "modes with reality have one"
        return self.real, self._filter

    def _believed(self) -> Tensor:
        return torch.from_numpy(self._reality()[1].means()).to(self.model.device, self.model.dtype)
