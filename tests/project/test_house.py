"""The house itself: names, the lock, the settings table, the delivery of libraries."""

import re
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from cli.main import COMMANDS
from cli.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "connectors", "streams", "search", "devstack", "cli")
LOCK = (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def installed() -> Mapping[str, list[str]]:
    return packages_distributions()


@pytest.mark.parametrize("package", PACKAGES)
def test_our_names_are_ours(package: str, installed: Mapping[str, list[str]]) -> None:
    """The public index has other packages of these names; one of them would overwrite ours."""
    assert installed[package] == ["mailstream"]
    assert not re.search(rf"^{package}==", LOCK, re.MULTILINE)


def test_every_dependency_is_pinned_with_hashes_and_no_host_is_named() -> None:
    entries = list(filter(None, re.split(r"^(?=[^\s#])", LOCK, flags=re.MULTILINE)))
    assert len(entries) > 100
    pinned = re.compile(r"[a-z0-9_.-]+(?:\[[^\]]*\])?==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", re.DOTALL)
    assert [entry for entry in entries if not pinned.match(entry)] == []
    assert "://" not in LOCK
    assert "--index-url" not in LOCK


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if hasattr(default, "get_secret_value"):
            default = default.get_secret_value()
        shown = str(default).replace(str(Path.home()), "~")
        cell = f"`{shown}`" if default not in (None, "") else ""
        rows.append(f"| `{name.upper()}` | {cell} | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert table == settings_table()


def test_every_package_and_module_is_shipped() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == there


def test_the_readme_knows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"mailstream {command}" in readme
