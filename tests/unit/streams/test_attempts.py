"""Deaths are counted by event, exceptions are not."""

import json
from pathlib import Path

import pytest

from streams.attempts import Attempts


def _dies(path: Path, *events: str) -> None:
    """A process that is killed while it works on ``events``: nothing is cleaned up."""
    attempts = Attempts(path)
    for event in events:
        attempts._running.add(event)
    attempts._save()
    attempts._lock.close()  # as the kernel does


async def test_three_deaths_on_one_event_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    for _ in range(3):
        _dies(path, "t/0/7")
    async with Attempts(path).track("t/0/7") as deaths:
        assert deaths == 3


async def test_success_forgets(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    _dies(path, "t/0/7", "t/0/8")
    async with Attempts(path).track("t/0/7"):
        pass
    attempts = Attempts(path)
    async with attempts.track("t/0/7") as deaths:
        assert deaths == 0
    async with attempts.track("t/0/8") as deaths:
        assert deaths == 1


async def test_an_exception_is_no_death(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    with pytest.raises(RuntimeError):
        async with Attempts(path).track("t/0/7"):
            raise RuntimeError
    async with Attempts(path).track("t/0/7") as deaths:
        assert deaths == 0


async def test_a_damaged_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    path.write_text("{half")
    async with Attempts(path).track("t/0/7") as deaths:
        assert deaths == 0


async def test_two_workers_of_one_directory_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    first, second = Attempts(path), Attempts(path)
    async with first.track("t/0/1"), second.track("t/0/2"):
        files = sorted(file.name for file in tmp_path.glob("*.json"))
        running = [json.loads((tmp_path / name).read_text())["running"] for name in files]
    assert running == [["t/0/2"], ["t/0/1"]]
