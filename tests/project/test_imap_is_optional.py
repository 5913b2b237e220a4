"""IMAP is one folder and one extra: without them everything else is there, and says what is missing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "connectors", "streams", "search", "devstack", "cli")
# Its own tests, and this one.
OWN = ("test_imap_comparison.py", "test_imap_outline.py", "test_imap_is_optional.py")
WITHOUT = """
import importlib, pkgutil, sys
sys.modules["imapclient"] = None  # the extra is not installed
for package in {packages!r}:
    for module in pkgutil.walk_packages([package], package + "."):
        if module.name not in ("cli.__main__",):
            importlib.import_module(module.name)
assert "connectors.imap" not in sys.modules
from cli.running import OpenMailboxes
from cli.settings import Settings
from connectors.errors import ConfigurationError
from schemas.events import MailboxRecord
try:
    OpenMailboxes(Settings(), 1.0).open(MailboxRecord(mailbox_id="a", address="a@b", source="imap"), None)
except ConfigurationError as error:
    assert "mailstream[imap]" in str(error), error
else:
    raise AssertionError("opened")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without the folder."""
    for name in (*PACKAGES, "tests", "scripts", "docs", "helm"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.rmtree(tmp_path / "connectors" / "imap")
    return tmp_path


def _python(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": "/usr/bin:/bin", "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.full
def test_everything_else_is_imported_without_it(copy: Path) -> None:
    _python(copy, "-c", WITHOUT.format(packages=PACKAGES))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_other_tests_pass_without_it(copy: Path) -> None:
    ignored = [f"--ignore-glob=*{name}" for name in OWN]
    _python(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/unit/connectors", *ignored)


def test_nothing_imports_it_at_its_own_start() -> None:
    """Cheap and in every run: outside the folder it is imported inside functions only."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if ROOT / "connectors" / "imap" not in path.parents
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if line.startswith(("from connectors.imap", "import connectors.imap", "import imapclient"))
    ]
    assert found == []
