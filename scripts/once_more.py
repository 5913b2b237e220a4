"""What failed in the last test run, once more and alone: real servers beside two other test files are busy.

    pytest ... || python scripts/once_more.py

Only tests of services, and no more than three: what fails under faults (tests/kill) or without servers
(tests/unit, tests/project, tests/contract) has failed. A test that passes now is named UNSTABLE: a defect
to be mended.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

MOST = 3
CACHE = Path(".pytest_cache/v/cache/lastfailed")


def again(failed: Iterable[str]) -> list[str]:
    """Which of the tests are run again: all of them, or none."""
    chosen = sorted(failed)
    if len(chosen) > MOST or not all(name.startswith("tests/services/") for name in chosen):
        return []
    return chosen


def main() -> None:
    """Exit with 0 when all of them pass."""
    chosen = again(json.loads(CACHE.read_text())) if CACHE.is_file() else []
    if not chosen:
        raise SystemExit(1)
    code = subprocess.run([sys.executable, "-m", "pytest", *chosen], check=False).returncode
    if code == 0:
        for name in chosen:
            sys.stdout.write(f"UNSTABLE: failed beside other tests, passes alone: {name}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
