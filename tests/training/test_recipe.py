import torch
from small import BOX, PIXELS, VECTOR, random_dataset

from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.training.config import TrainConfig
from worldmodel.training.recipe import recipe


def test_pictures_get_the_defaults():
    assert recipe(random_dataset(PIXELS, BOX, steps=20)) == (DVBFConfig(), TrainConfig())


def test_vectors_get_a_state_of_their_size_and_a_sharper_model():
    dataset = random_dataset(VECTOR, BOX, steps=20)
    model, training = recipe(dataset)
    assert model.latent_size == 3 and model.recognition == "fusion"
    assert training.constrained.tight < TrainConfig().constrained.tight
    DVBF(model, VECTOR, BOX)


def test_the_window_fits_the_longest_recorded_episode():
    dataset = random_dataset(VECTOR, BOX, steps=20)
    dataset.train.mask[:] = torch.arange(20) < 9
    assert recipe(dataset)[1].window == 9
