"""What is suspicious in a dataset, told before anything is built on it."""

from __future__ import annotations

from worldmodel import data
from worldmodel.cli.console import note
from worldmodel.systems import system_of


def note_findings(dataset: data.Dataset) -> None:
    """Print them, one a line."""
    system = system_of(dataset.provenance.env_id)
    for finding in data.findings(dataset, system.controlled):
        note(finding)
