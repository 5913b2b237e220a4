"""Print the part of requirements.lock that an image needs, hashes and all: ``python scripts/image_lock.py``.

The lock says of every package which others brought it (``# via``). What only the ``dev`` extra brings is left
out. ``--without-torch`` leaves out torch and what lets it use a graphics card: the image takes a smaller one.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = "mailstream"
# What builds our own wheel, without another download.
BUILD = {"setuptools"}
EXTRAS = ("imap", "otel")
ACCELERATORS = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def blocks(lock: str) -> dict[str, str]:
    """The lines of each package, by its name."""
    starts = re.split(r"(?m)^(?=[a-z0-9])", lock)
    return {re.split(r"[=\[ ;]", block, maxsplit=1)[0]: block for block in starts if "==" in block}


def parents(block: str) -> set[str]:
    """Who brought a package."""
    _, _, via = block.partition("# via")
    return set(re.findall(r"[a-z0-9][a-z0-9._-]*", re.sub(r"\([^)]*\)|#", " ", via)))


def needed(lock: str, direct: set[str]) -> dict[str, str]:
    """The blocks of ``direct`` and of everything that these bring."""
    known = blocks(lock)
    found = {name for name in direct if name in known}
    grown = True
    while grown:
        brought = {name for name, block in known.items() if parents(block) & found}
        grown = not brought <= found
        found |= brought
    return {name: block for name, block in known.items() if name in found}


def dependencies() -> set[str]:
    """What pyproject.toml asks for at run time, in an image that can do all that a setting asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *(each for extra in EXTRAS for each in project["optional-dependencies"][extra]),
    ]
    return {re.split(r"[\[<>=!~ ]", entry, maxsplit=1)[0].lower() for entry in asked}


def image_lock(*, with_torch: bool = True) -> str:
    """The image's lock."""
    chosen = needed((ROOT / "requirements.lock").read_text(encoding="utf-8"), dependencies() | BUILD)
    return "".join(block for name, block in chosen.items() if with_torch or not ACCELERATORS.fullmatch(name))


if __name__ == "__main__":
    sys.stdout.write(image_lock(with_torch="--without-torch" not in sys.argv[1:]))
