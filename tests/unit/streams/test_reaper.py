"""The reaper: what is old goes, whoever made it; what is young, and what lies elsewhere, stays."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.reap import reap as command
from cli.settings import settings
from connectors.errors import ConfigurationError
from streams.reaper import live_in, reap, sweep

ROOT = Path(__file__).parents[3]
OLD = time.time() - 60


def file(path: Path, *, old: bool = False, size: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if old:
        os.utime(path, (OLD, OLD))
    return path


def test_what_is_old_goes_and_what_is_young_stays(tmp_path: Path) -> None:
    file(tmp_path / "tess_old", old=True)
    new = file(tmp_path / "tess_new", size=10)
    file(tmp_path / "clamav-1" / "deep" / "old", old=True)  # in directories that are fresh themselves
    mixed = file(tmp_path / "mixed" / "new", size=20)
    file(tmp_path / "mixed" / "old", old=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    done = reap(tmp_path)
    assert sorted(tmp_path.rglob("*")) == [empty, mixed.parent, mixed, new]
    assert (done.removed, done.files, done.size_bytes) == (5, 2, 30)
    assert done.oldest_seconds < 30
    os.utime(empty, (OLD, OLD))
    assert reap(tmp_path).removed == 1
    assert not empty.exists()


def test_a_date_in_the_future_makes_nothing_young(tmp_path: Path) -> None:
    path = file(tmp_path / "forged")
    os.utime(path, (time.time() + 10_000,) * 2)
    assert reap(tmp_path).removed == 0
    assert reap(tmp_path, older_than_seconds=0.0).removed == 1


def test_no_link_is_followed(tmp_path: Path) -> None:
    kept = file(tmp_path / "elsewhere" / "kept", old=True)
    directory = tmp_path / "ephemeral"
    directory.mkdir()
    for name, target in (("file", kept), ("directory", kept.parent), ("nowhere", tmp_path / "none")):
        (directory / name).symlink_to(target)
        os.utime(directory / name, (OLD, OLD), follow_symlinks=False)
    assert reap(directory).removed == 3
    assert kept.exists()
    (tmp_path / "alias").symlink_to(kept.parent)
    with pytest.raises(ConfigurationError):
        reap(tmp_path / "alias")
    with pytest.raises(ConfigurationError):
        sweep(tmp_path / "alias")
    assert kept.exists()


def test_the_place_of_a_living_process_stays_but_nothing_old_in_it(tmp_path: Path) -> None:
    place = tmp_path / "parser-1"
    file(place / "tess_old", old=True)
    file(place / "inner" / "old", old=True)
    os.utime(place, (OLD, OLD))
    alive = live_in(place)
    assert reap(tmp_path).removed == 3
    assert list(place.iterdir()) == []
    os.utime(place, (OLD, OLD))
    assert reap(tmp_path).removed == 0
    os.close(alive)
    assert reap(tmp_path).removed == 1


def test_what_others_make_and_remove_meanwhile_is_fine(tmp_path: Path) -> None:
    rounds, ended = 0, threading.Event()

    def others() -> None:
        nonlocal rounds
        while not ended.is_set():
            for number in range(20):
                file(tmp_path / f"d{number}" / "inner" / "old", old=True)
            for number in range(20):
                shutil.rmtree(tmp_path / f"d{number}", ignore_errors=True)
            rounds += 1

    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            others()
        except FileNotFoundError:
            guarded()  # the reaper took the directory that a file was to be made in
        except OSError as error:
            errors.append(error)

    worker = threading.Thread(target=guarded)
    worker.start()
    try:
        removed = 0
        while removed < 200 or rounds < 10:
            removed += reap(tmp_path).removed
    finally:
        ended.set()
        worker.join()
    assert errors == []


def test_the_sweep_closes_the_door(tmp_path: Path) -> None:
    directory = tmp_path / "ephemeral"
    assert reap(directory).removed == 0, "what is not there is empty"
    directory.mkdir(mode=0o755)
    file(directory / "old", old=True)
    assert sweep(directory).removed == 1
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "ephemeral"
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    with pytest.raises(ConfigurationError, match="another user"):
        sweep(directory)


def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPHEMERAL_DIRECTORY", str(tmp_path))
    settings.cache_clear()
    file(tmp_path / "old", old=True)
    file(tmp_path / "new")
    try:
        result = CliRunner().invoke(command, [])
    finally:
        settings.cache_clear()
    assert (result.exit_code, result.output.split(",")[0]) == (0, "1 removed; 1 files left")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "systemd-analyze is missing: install the package systemd"
    units = []
    for name in ("mailstream-reap.service", "mailstream-reap.timer"):
        unit = tmp_path / name
        text = (ROOT / "scripts" / name).read_text()
        unit.write_text(text.replace("/opt/mailstream/.venv/bin/mailstream", shutil.which("true") or ""))
        units.append(str(unit))
    result = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
