"""Steps environments of ours in processes that a parent with busy threads starts. Not a test."""

import sys

import gymnasium as gym
import torch

import envs  # noqa: F401 (registers the real systems)
import worldmodel


def dream(world):
    return gym.make("worldmodel/Latent-v0", checkpoint=world)


def film(world):
    return gym.make("worldmodel/Latent-v0", checkpoint=world, render_mode="rgb_array")


def filtered(world):
    return worldmodel.FilterObservation(gym.make("worldmodel/Pendulum-v0"), world)


MAKERS = {maker.__name__: maker for maker in (dream, film, filtered)}


class Maker:
    """Made in the child: what it takes along is pickled where processes are not forked."""

    def __init__(self, name, world):
        self.name, self.world = name, world

    def __call__(self):
        return MAKERS[self.name](self.world)


def main(library, start, name):
    # As many as a user's machine has; those of the tests have one.
    torch.set_num_threads(4)
    world = worldmodel.load("pendulum")
    busy = torch.randn(1000, 1000)
    assert (busy @ busy).isfinite().all()
    makers = [Maker(name, world)] * 2
    if library == "gymnasium":
        vector = gym.vector.AsyncVectorEnv(makers, context=start)
        vector.reset(seed=0)
        seen = [vector.step(vector.action_space.sample())[0] for _ in range(3)]
    else:
        from stable_baselines3.common.vec_env import SubprocVecEnv

        vector = SubprocVecEnv(makers, start_method=start)
        vector.reset()
        seen = [vector.step([vector.action_space.sample()] * 2)[0] for _ in range(3)]
    vector.close()
    assert all(observations.shape == (2, world.model.latent_size) for observations in seen)
    print("stepped")


if __name__ == "__main__":
    main(*sys.argv[1:])
