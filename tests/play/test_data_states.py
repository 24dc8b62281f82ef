import numpy as np
import torch
from small import BOX, PIXELS, random_batch, tiny_model, with_fields

from worldmodel.play.data_states import SETTLED, DataStates


def test_recorded_states_are_what_the_filter_believes():
    model, batch = tiny_model(PIXELS, BOX), random_batch(PIXELS, BOX, size=6, steps=9)
    known = DataStates.recorded(model, batch)
    beliefs = model.filter_beliefs(batch.observations, batch.actions)
    assert len(known) == 6 * (10 - SETTLED)
    np.testing.assert_allclose(known.latents, beliefs.mean[:, SETTLED:].flatten(0, 1))
    np.testing.assert_array_equal(
        known.frames["observation"], batch.observations[:, SETTLED:].flatten(0, 1)
    )
    np.testing.assert_array_equal(known.truths, batch.states[:, SETTLED:].flatten(0, 1))
    rewards = batch.rewards[:, SETTLED - 1 :].flatten()  # each paid on arrival in its frame
    np.testing.assert_array_equal(known.variables["reward"], rewards)
    np.testing.assert_array_equal(known.variables["state_1"], known.truths[:, 1])
    belief = known.belief(7, model)
    assert torch.equal(belief.mean, beliefs.mean[1, SETTLED + 2][None])
    assert torch.equal(belief.scale, beliefs.scale[1, SETTLED + 2][None])


def test_padding_is_no_data_and_there_are_no_more_than_asked():
    model, batch = tiny_model(PIXELS, BOX), random_batch(PIXELS, BOX, size=6, steps=9)
    mask = batch.mask.clone()
    mask[0, 6:] = False
    known = DataStates.recorded(model, with_fields(batch, mask=mask, states=None))
    assert len(known) == 6 * (10 - SETTLED) - 3 and known.truths is None
    assert len(DataStates.recorded(model, batch, most=12)) == 12


def test_short_episodes_give_their_last_frame():
    model, batch = tiny_model(PIXELS, BOX), random_batch(PIXELS, BOX, size=4, steps=2)
    assert len(DataStates.recorded(model, batch)) == 4
