"""Which index a rebuild takes vectors from."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cli.reindex import _known_vectors
from connectors.elasticsearch.versions import Version, Versions
from connectors.encoder import HashEncoder
from schemas.mapping import MAPPING_VERSION, VECTORS_VERSION

OURS = Version("mail-v000002", "u", True, HashEncoder.name, MAPPING_VERSION, VECTORS_VERSION)


@pytest.mark.parametrize(
    ("live", "older", "taken"),
    [
        (OURS, [], "mail-v000002"),
        (replace(OURS, vectors_version=None), [replace(OURS, name="mail-v000001")], "mail-v000001"),
        (replace(OURS, vectors_version=VECTORS_VERSION - 1), [], None),
        (replace(OURS, encoder="another"), [], None),
    ],
)
def test_vectors_made_in_another_way_are_not_reused(
    live: Version, older: list[Version], taken: str | None
) -> None:
    console = Console(file=io.StringIO())
    vectors = _known_vectors(Versions(None), live, older, HashEncoder(), console)  # type: ignore[arg-type]
    assert (vectors and vectors._name) == taken
