"""From any Gymnasium environment, or any arrays, to a dataset on disk, and back."""

from worldmodel.data.babble import (
    PROCESSES,
    ActionProcess,
    Held,
    OrnsteinUhlenbeck,
    Sticky,
    Uniform,
    Zero,
)
from worldmodel.data.behaviour import Actor, Behaviour
from worldmodel.data.building import from_episodes, save
from worldmodel.data.collecting import collect
from worldmodel.data.dataset import Dataset, fingerprint
from worldmodel.data.environments import Source, Wrapping, make_vec
from worldmodel.data.episodes import Episode, Episodes
from worldmodel.data.findings import findings
from worldmodel.data.given import Given
from worldmodel.data.provenance import Provenance, installed_versions
from worldmodel.data.record import SplitConfig, default_splits, record
from worldmodel.data.storage import load
from worldmodel.data.writer import DatasetWriter

__all__ = [
    "PROCESSES",
    "ActionProcess",
    "Actor",
    "Behaviour",
    "Dataset",
    "DatasetWriter",
    "Episode",
    "Episodes",
    "Given",
    "Held",
    "OrnsteinUhlenbeck",
    "Provenance",
    "Source",
    "SplitConfig",
    "Sticky",
    "Uniform",
    "Wrapping",
    "Zero",
    "collect",
    "default_splits",
    "findings",
    "fingerprint",
    "from_episodes",
    "installed_versions",
    "load",
    "make_vec",
    "record",
    "save",
]
