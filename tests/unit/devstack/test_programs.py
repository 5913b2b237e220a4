"""What a machine must have is found by asking, or named with its package."""

from pathlib import Path

import pytest

from devstack import programs
from devstack.programs import DevstackError


def _jdk(home: Path, version: str, *, full: bool = True) -> Path:
    (home / "bin").mkdir(parents=True)
    java = home / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    java.chmod(0o755)
    if full:
        (home / "bin" / "javac").touch()
    return home


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "_JDK_PATTERNS", (f"{tmp_path}/jvm/*",))


def test_java_home_comes_first(tmp_path: Path) -> None:
    chosen = _jdk(tmp_path / "chosen", "21.0.2")
    _jdk(tmp_path / "jvm" / "jdk-25", "25.0.1")
    assert programs.find_java_home(environment={"JAVA_HOME": str(chosen), "PATH": ""}) == chosen


def test_an_old_default_is_passed_over_for_the_newest_beside_it(tmp_path: Path) -> None:
    old = _jdk(tmp_path / "default", "17.0.15")
    _jdk(tmp_path / "jvm" / "jdk-9", "9.0.4")
    _jdk(tmp_path / "jvm" / "jdk-21", "21.0.2")
    newest = _jdk(tmp_path / "jvm" / "jdk-25", "25.0.1")
    environment = {"JAVA_HOME": str(old), "PATH": str(old / "bin")}
    assert programs.find_java_home(environment=environment) == newest


def test_the_name_of_a_folder_is_not_believed(tmp_path: Path) -> None:
    _jdk(tmp_path / "jvm" / "jdk-25", "17.0.15")
    right = _jdk(tmp_path / "jvm" / "some-java", "21")
    assert programs.find_java_home(environment={"PATH": ""}) == right


@pytest.mark.parametrize(
    ("version", "full"), [(None, True), ("17.0.15", True), ("1.8.0_402", True), ("25", False)]
)
def test_no_full_jdk_that_is_new_enough_names_the_package(
    tmp_path: Path, version: str | None, full: bool
) -> None:
    if version:
        _jdk(tmp_path / "jvm" / "jdk", version, full=full)
    with pytest.raises(DevstackError, match="install the package openjdk-21-jdk-headless") as caught:
        programs.find_java_home(environment={"PATH": ""})
    assert "\n" not in str(caught.value)


def test_no_maven_and_no_tesseract_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DevstackError, match="install the package maven"):
        programs.find_maven()
    with pytest.raises(DevstackError, match="install the package tesseract-ocr"):
        programs.find_tesseract()
