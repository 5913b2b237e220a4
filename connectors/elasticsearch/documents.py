"""Documents as they stand and as they are to be written, each with the version to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as it stands: the source fields asked for, and the version to compare with on writing."""

    source: Mapping[str, Any]
    seq_no: int
    primary_term: int


@dataclass(frozen=True, slots=True)
class Write:
    """One compare-and-set write. ``expected`` None: the document must not exist yet.

    ``partial`` merges the fields into the document and leaves the others, vectors included, as they are.
    Vectors are float32 arrays.
    """

    document_id: str
    fields: Mapping[str, Any]
    expected: Stored | None = None
    partial: bool = False
