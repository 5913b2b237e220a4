"""What runs the tests: parts by their names; and what failed once more, where its neighbours may be why."""

import subprocess
from functools import partial
from pathlib import Path

import pytest

from scripts import test_full
from scripts.once_more import again
from tests.conftest import encodable


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Which parts have been run; "outage" fails."""
    names: list[str] = []

    def run(name: str) -> None:
        names.append(name)
        if name == "outage":
            raise SystemExit("pytest ended with 1")

    for name in test_full.PARTS:
        monkeypatch.setitem(test_full.PARTS, name, partial(run, name))
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "same")
    monkeypatch.setattr(test_full, "notes", lambda: tmp_path / "cache" / "code.json")
    return names


def test_every_part_runs_or_those_that_are_named(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    test_full.main(["soak", "growth"])
    assert ran == ["soak", "growth"]
    monkeypatch.setitem(test_full.PARTS, "outage", lambda: ran.append("outage"))
    monkeypatch.setattr(test_full, "notes", lambda: None)  # something is not committed
    test_full.main([])
    assert ran[2:] == list(test_full.PARTS)


def test_what_has_passed_on_this_code_is_not_run_again_unless_it_is_named(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="ended with 1"):
        test_full.main([])
    begun = len(ran)
    monkeypatch.setitem(test_full.PARTS, "outage", lambda: ran.append("outage"))
    test_full.main([])
    assert ran[begun:] == list(test_full.PARTS)[begun - 1 :]
    told = capsys.readouterr().out.splitlines()[-len(test_full.PARTS) :]
    assert [line.split()[2] for line in told] == list(test_full.PARTS)
    test_full.main(["growth"])
    assert ran[-1] == "growth"
    assert len(ran) == len(test_full.PARTS) + 2


def test_what_passed_counts_for_the_committed_code_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def commit(name: str, content: str) -> Path | None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        for asked in (
            ("add", "."),
            ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x"),
        ):
            subprocess.run(["git", *asked], cwd=tmp_path, check=True)
        return test_full.notes()

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(test_full, "ROOT", tmp_path)
    first = commit("code.py", "1")
    assert first is not None
    assert first == commit("docs/figures.png", "2") == commit("README.md", "3")
    assert commit("code.py", "4") not in (first, None)
    (tmp_path / "code.py").write_text("5")
    assert test_full.notes() is None


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
