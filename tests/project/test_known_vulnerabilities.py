"""The audit of dependencies, against an index of our own that knows something of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import audit
from tests.serving import Handler, served


def _project(newest: str, *vulnerabilities: str, yanked: str | None = None) -> dict[str, Any]:
    file = {"yanked": yanked is not None, "yanked_reason": yanked}
    return {
        "info": {"version": newest},
        "releases": {newest: [file]},
        "vulnerabilities": [{"id": name, "withdrawn": None} for name in vulnerabilities],
    }


PAGES = {
    "/good/json": _project("1.0"),
    "/bad/json": _project("2.0", "CVE-2026-1"),
    "/gone/json": _project("3.0", yanked="it lost data"),
    "/old/json": _project("5.0", "CVE-2026-2"),
    # An index that has a page of each version.
    "/exact/4.0/json": {"info": {"version": "4.0"}, "urls": [{"yanked": False}], "vulnerabilities": []},
    "/exact/json": _project("9.0", "CVE-2026-3"),
    "/taken-back/json": {
        **_project("1.0"),
        "vulnerabilities": [{"id": "CVE-2026-4", "withdrawn": "2026-01-01"}],
    },
}
LOCK = """
good==1.0 \\
    --hash=sha256:00
bad[extra]==2.0 ; python_version > "3"
gone==3.0
old==4.0
exact==4.0
taken-back==1.0
nowhere==1.0
"""


class _Index(Handler):
    def get(self) -> None:
        found = PAGES.get(self.path)
        self.answer(found or {}, 200 if found else 404)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCK)
    monkeypatch.setattr(audit, "LOCK", lock)
    with served(_Index) as address:
        yield address


def test_each_package_has_its_verdict(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = {name: (said, known) for name, _, said, known in audit.audit(index, audit.locked(LOCK))}
    assert found == {
        "good": ("clean", []),
        "bad": ("vulnerable", ["CVE-2026-1"]),
        "gone": ("withdrawn", ["it lost data"]),
        "old": ("behind", ["5.0"]),
        "exact": ("clean", []),
        "taken-back": ("clean", []),
        "nowhere": ("unknown", []),
    }
    assert audit.main([], index) == 1
    assert "vulnerable bad 2.0 CVE-2026-1" in capsys.readouterr().out


def test_what_is_clean_is_0_and_an_index_that_is_away_is_no_pass(index: str) -> None:
    assert audit.main(["good", "old", "exact"], index) == 0
    assert audit.main(["gone"], index) == 1
    assert audit.main(["good"], "http://127.0.0.1:9") == 2


def test_the_lock_is_read_whole() -> None:
    text = audit.LOCK.read_text()
    assert len(audit.locked(text)) == sum("==" in line for line in text.splitlines() if line[:1].isalpha())
    assert audit.locked(text)["aiohttp"]
