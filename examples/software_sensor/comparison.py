"""What is estimated from what, and how far off it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from physics_filters import extended_kalman_filter, particle_filter

from worldmodel.evaluation.identification import pendulum_targets, regress
from worldmodel.types import Batch
from worldmodel.world.world import World

WARM = 30  # steps (3 s) after which a filter counts as warmed up
WINDOW = 10  # readings that the stronger of the raw estimates looks at

NAMES = {
    "raw": "raw sensor, latest reading",
    "window": "raw sensor, last ten readings",
    "learned": "learned filter",
    "ekf": "extended Kalman filter, true physics",
    "optimum": "optimum: particle filter, true physics",
    "fewer_particles": "the same, a quarter of the particles",
}

# From episodes to what a regression may look at, (B, T + 1, features).
Features = Callable[[Batch], np.ndarray]


def truth(batch: Batch) -> np.ndarray:
    """sin, cos and velocity (rad/s) of the recorded states, (B, T + 1, 3)."""
    assert batch.states is not None
    return np.stack(list(pendulum_targets(batch.states.numpy()).values()), -1)


def estimates(
    world: World, train: Batch, test: Batch, particles: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Every method's estimates of ``truth`` on the test episodes, by name.

    Those that are calibrated are calibrated on the training episodes, by the same regression.
    """
    readings, actions = test.observations.numpy(), test.actions.numpy()
    optimum, fewer = (
        particle_filter(readings, actions, n, rng) for n in (particles, particles // 4)
    )
    return {
        "raw": calibrated(lambda batch: batch.observations.numpy(), train, test),
        "window": calibrated(last_readings, train, test),
        "learned": calibrated(
            lambda batch: world.filter(batch.observations.numpy(), batch.actions.numpy()),
            train,
            test,
        ),
        "ekf": extended_kalman_filter(readings, actions),
        "fewer_particles": fewer,
        "optimum": optimum,
    }


def calibrated(features: Features, train: Batch, test: Batch) -> np.ndarray:
    """Least squares on features and their products, fitted once a filter is warm.

    Every third step is enough to fit to: neighbours are alike, and the time goes with their number.
    """
    some = slice(WARM, None, 3)
    known = quadratic(features(train)[:, some])
    fit = regress(known.reshape(-1, known.shape[-1]), truth(train)[:, some].reshape(-1, 3))
    return fit.predict(quadratic(features(test)))


def quadratic(features: np.ndarray) -> np.ndarray:
    """Features (*n, k), and all products of two of them."""
    i, j = np.triu_indices(features.shape[-1])
    return np.concatenate([features, features[..., i] * features[..., j]], -1)


def last_readings(batch: Batch) -> np.ndarray:
    """The last ``WINDOW`` readings and the torques between them; before the first, the first."""
    readings, actions = batch.observations.numpy(), batch.actions.numpy()
    before = WINDOW - 1
    readings = np.concatenate([readings[:, :1].repeat(before, 1), readings], 1)
    actions = np.concatenate([np.zeros_like(actions[:, :1]).repeat(before, 1), actions], 1)
    frames = batch.steps + 1
    return np.concatenate(
        [readings[:, k : k + frames] for k in range(WINDOW)]
        + [actions[:, k : k + frames] for k in range(before)],
        -1,
    )


def squared_errors(estimate: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Of sin, cos, velocity ((rad/s)^2) and the angle that sin and cos make (degrees^2)."""
    squared = (estimate - known) ** 2
    sin, cos, _ = np.moveaxis(estimate, -1, 0)
    off = np.arctan2(sin, cos) - np.arctan2(known[..., 0], known[..., 1])
    angle = np.rad2deg(np.angle(np.exp(1j * off))) ** 2
    return {
        "sin": squared[..., 0],
        "cos": squared[..., 1],
        "angle": angle,
        "velocity": squared[..., 2],
    }


def measure(found: dict[str, np.ndarray], known: np.ndarray) -> dict[str, dict]:
    """Root mean squared errors by method and variable.

    Returns:
        ``rmse``, of all steps after the filters have warmed up; ``typical``, the same of the median
        episode; and ``course``, over the time since a cold start.
    """
    errors = {name: squared_errors(estimate, known) for name, estimate in found.items()}

    def each(reduce: Callable[[np.ndarray], np.ndarray]) -> dict[str, dict]:
        return {
            name: {variable: reduce(squared).tolist() for variable, squared in by.items()}
            for name, by in errors.items()
        }

    return {
        "rmse": each(lambda squared: np.sqrt(squared[:, WARM:].mean())),
        "typical": each(lambda squared: np.sqrt(np.median(squared[:, WARM:].mean(1)))),
        "course": each(lambda squared: np.sqrt(squared.mean(0))),
    }
