"""What runs the tests: parts by their names; and what failed once more, where its neighbours may be why."""

from functools import partial

import pytest

from scripts import test_full
from scripts.once_more import again
from tests.conftest import encodable


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which parts have been run; "outage" fails."""
    names: list[str] = []

    def run(name: str) -> None:
        names.append(name)
        if name == "outage":
            raise SystemExit("pytest ended with 1")

    for name in test_full.PARTS:
        monkeypatch.setitem(test_full.PARTS, name, partial(run, name))
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "same")
    return names


def test_every_part_runs_or_those_that_are_named(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    test_full.main(["soak", "growth"])
    assert ran == ["soak", "growth"]
    monkeypatch.setitem(test_full.PARTS, "outage", lambda: ran.append("outage"))
    test_full.main([])
    assert ran[2:] == list(test_full.PARTS)


def test_what_has_run_has_its_time_though_a_later_part_fails(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="ended with 1"):
        test_full.main(["soak", "outage", "growth"])
    assert ran == ["soak", "outage"]
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines()[-2:]] == [
        ["s", "soak"],
        ["s", "outage"],
    ]


def test_an_unknown_part_is_an_error_that_lists_the_names(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        test_full.main(["growth", "grwth"])
    assert ran == []
    _, _, said = capsys.readouterr().err.partition("grwth: no such part; there are ")
    assert said.rstrip().split(", ") == list(test_full.PARTS)


def test_every_part_says_what_it_is() -> None:
    assert [name for name, part in test_full.PARTS.items() if not part.__doc__] == []


def test_few_tests_of_services_are_run_again_and_nothing_else_is() -> None:
    some = [f"tests/services/test_a.py::test_{number}" for number in range(4)]
    assert again(some[:3]) == some[:3]
    assert again(some) == []
    assert again([]) == []
    for other in ("kill/test_kills", "unit/streams/test_settle", "contract/test_imap_plain"):
        assert again([some[0], f"tests/{other}.py::test_it"]) == []


def test_a_failure_over_a_hostile_name_does_not_end_the_run() -> None:
    told = encodable({"longrepr": ("no \udcff.pdf", [7, None]), "nodeid": "grün"})
    assert told == {"longrepr": ["no \\udcff.pdf", [7, None]], "nodeid": "grün"}
