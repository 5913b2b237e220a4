"""The systemd units: systemd itself reads them without a complaint."""

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
INSTALLED = "/opt/mailstream/.venv/bin/mailstream"


def _verify(directory: Path, *names: str) -> tuple[int, str]:
    answer = subprocess.run(
        ["systemd-analyze", "verify", *(str(directory / name) for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units' names; copies of them lie in ``tmp_path``, where the command is at hand."""
    command = tmp_path / "mailstream"
    command.touch(0o755)
    names = sorted(path.name for path in SCRIPTS.iterdir() if path.suffix in (".service", ".timer"))
    for name in names:
        text = (SCRIPTS / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, str(command)))
    return names


def test_the_units_are_right(units: list[str], tmp_path: Path) -> None:
    assert units == ["mailstream-reap.service", "mailstream-reap.timer"]
    assert _verify(tmp_path, *units) == (0, "")


def test_a_mistake_would_be_seen(units: list[str], tmp_path: Path) -> None:
    service = tmp_path / "mailstream-reap.service"
    service.write_text(service.read_text().replace("NoNewPrivileges", "NoNewPriviledges"))
    _, said = _verify(tmp_path, *units)
    assert "NoNewPriviledges" in said
