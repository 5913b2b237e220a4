"""Print the packages that are installed, Python's and Debian's, as CycloneDX: ``python scripts/sbom.py``."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions


def _licenses(package: Distribution) -> list[dict[str, object]]:
    known, name = (
        next(iter(package.metadata.get_all(field) or ()), "").strip()
        for field in ("License-Expression", "License")
    )
    if known:
        return [{"expression": known}]
    # Some put the whole text there.
    return [{"license": {"name": name}}] if name and len(name) < 100 else []


def python_packages() -> list[dict[str, object]]:
    """The distributions that this interpreter sees."""
    found: dict[str, dict[str, object]] = {}
    for package in distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        purl = f"pkg:pypi/{name}@{package.version}"
        found[purl] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package.version,
            "purl": purl,
        }
        if licenses := _licenses(package):
            found[purl]["licenses"] = licenses
    return [found[purl] for purl in sorted(found)]


def debian_packages() -> list[dict[str, object]]:
    """The system's packages; none where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return []
    asked = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    found: list[dict[str, object]] = []
    for name, version, architecture in sorted(line.split() for line in lines if len(line.split()) == 3):
        purl = f"pkg:deb/debian/{name}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={architecture}"
        found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return found


def bill() -> dict[str, object]:
    """The document. The same packages give the same bytes: it has no time and no serial number."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "mailstream"}},
        "components": [*python_packages(), *debian_packages()],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
    sys.stdout.write("\n")
