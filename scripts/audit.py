"""What the package index knows against the locked packages: ``python scripts/audit.py [NAME...]``.

pip-audit asks for the page of each version, or a database elsewhere; where only a mirror of the index can
be reached, there is neither. A project's own page is there: it tells the vulnerabilities of its newest
version, and which versions were withdrawn. So a package is ``clean`` whose newest version is locked and has
none, and ``behind`` where a newer one is there and nobody can say more. Without names all of
requirements.lock is asked for, one after the other.

Ends with 1 where something is vulnerable or withdrawn, with 2 where the index does not answer.
"""

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pip._internal.models.index import PyPI

LOCK = Path(__file__).parents[1] / "requirements.lock"
TIMEOUT_SECONDS = 20


def locked(text: str) -> dict[str, str]:
    """The version of each package in a lock."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE))


def page(index: str, *path: str) -> dict[str, Any] | None:
    """A page of the index; None where it has none. Raises OSError."""
    try:
        with urllib.request.urlopen(  # noqa: S310 - the address is pip's own, or a test's
            f"{index}/{'/'.join(path)}/json", timeout=TIMEOUT_SECONDS
        ) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    return found


def verdict(index: str, name: str, version: str) -> tuple[str, list[str]]:
    """What is known of a version: ``clean``, ``vulnerable``, ``withdrawn``, ``behind`` or ``unknown``, and
    the names of what is known."""
    own = page(index, name, version)
    project = own or page(index, name)
    if project is None:
        return "unknown", []
    files = project.get("releases", {}).get(version) or (project.get("urls", []) if own else [])
    if files and all(file.get("yanked") for file in files):
        return "withdrawn", sorted({file.get("yanked_reason") or "" for file in files})
    if own is None and project["info"]["version"] != version:
        return "behind", [project["info"]["version"]]
    open_ones = [known for known in project.get("vulnerabilities", []) if not known.get("withdrawn")]
    return ("vulnerable" if open_ones else "clean"), [known["id"] for known in open_ones]


def audit(index: str, versions: dict[str, str]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Name, version, verdict and what is known, one package after the other."""
    for name, version in versions.items():
        yield (name, version, *verdict(index, name, version))


def main(arguments: list[str] | None = None, index: str = PyPI.pypi_url) -> int:
    """Ask, print what is not clean, and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args(arguments).names
    versions = locked(LOCK.read_text())
    if missing := set(names) - versions.keys():
        parser.error(f"not in {LOCK.name}: {', '.join(sorted(missing))}")
    counts: Counter[str] = Counter()
    try:
        for name, version, found, known in audit(index, {n: versions[n] for n in names or versions}):
            counts[found] += 1
            if found != "clean":
                sys.stdout.write(f"{found:10} {name} {version} {' '.join(known)}\n")
    except OSError as error:
        sys.stderr.write(f"the index does not answer: {error}\n")
        return 2
    sys.stdout.write(f"{sum(counts.values())} packages: {dict(counts)}\n")
    return int(bool(counts["vulnerable"] or counts["withdrawn"]))


if __name__ == "__main__":
    sys.exit(main())
