"""Formats of files of observations and posteriors; a module of its own, so that `--help` imports nothing else."""

from __future__ import annotations

from enum import StrEnum


class FileFormat(StrEnum):
    """How a file holds its rows."""

    csv = "csv"
    parquet = "parquet"
    ndjson = "ndjson"
    mcap = "mcap"
    db3 = "db3"
