"""From any Gymnasium environment to a dataset on disk, and back."""

from worldmodel.data.babble import (
    PROCESSES,
    ActionProcess,
    Held,
    OrnsteinUhlenbeck,
    Uniform,
    Zero,
)
from worldmodel.data.dataset import Dataset, Provenance, fingerprint, installed_versions
from worldmodel.data.environments import Source, Wrapping, make_vec
from worldmodel.data.findings import findings
from worldmodel.data.given import Given
from worldmodel.data.record import SplitConfig, collect, default_splits, record
from worldmodel.data.storage import load, save

__all__ = [
    "PROCESSES",
    "ActionProcess",
    "Dataset",
    "Given",
    "Held",
    "OrnsteinUhlenbeck",
    "Provenance",
    "Source",
    "SplitConfig",
    "Uniform",
    "Wrapping",
    "Zero",
    "collect",
    "default_splits",
    "findings",
    "fingerprint",
    "installed_versions",
    "load",
    "make_vec",
    "record",
    "save",
]
