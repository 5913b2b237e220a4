"""Virtual environments of what the benchmarks compare with: below the user's cache, made once, in no lock."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devstack.maven import cache_directory, locked
from devstack.programs import DevstackError


def environment(name: str, packages: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages. Raises ``DevstackError``."""
    home = cache_directory() / f"{name}-{hashlib.sha256(repr(packages).encode()).hexdigest()[:12]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with locked(home.with_suffix(".lock")):
        if not (home / "complete").exists():
            uv, python = str(Path(sys.executable).parent / "uv"), str(home / "bin" / "python")
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
                [uv, "pip", "install", "--quiet", "--python", python, *packages],
            ):
                ended = subprocess.run(command, capture_output=True, text=True, check=False)
                if ended.returncode:
                    raise DevstackError(f"{packages} cannot be installed: {ended.stderr[-1000:]}")
            (home / "complete").touch()
    return home / "bin" / "python"
