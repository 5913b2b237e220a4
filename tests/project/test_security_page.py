"""SECURITY.md names tests: each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 50
    for path, name in named:
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"


def test_every_protection_has_a_test() -> None:
    """No row of a table of protections is without one."""
    page = (ROOT / "SECURITY.md").read_text()
    rows = [
        row
        for table in page.split("| protection | test |\n|---|---|\n")[1:]
        for row in table.split("\n\n")[0].splitlines()
    ]
    assert len(rows) > 35
    assert not [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]]
