"""Recordings of other formats to a dataset."""

from worldmodel.data.importing import report
from worldmodel.data.importing.opened import Choices, Import
from worldmodel.data.importing.written import parse_shares, parse_size, write

__all__ = ["Choices", "Import", "parse_shares", "parse_size", "report", "write"]
