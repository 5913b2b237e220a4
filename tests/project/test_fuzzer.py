"""The fuzzer itself: it finds what is planted, and nothing where nothing is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_fuzzer_finds_what_breaks_a_promise(tmp_path: Path) -> None:
    """A defect is planted; the fuzzer comes upon it within seconds, and ends with an error."""
    program = f"""
import sys
from pathlib import Path
from schemas import mime
import tests.fuzz, tests.fuzz_targets
tests.fuzz.ARTIFACTS = Path({str(tmp_path)!r})
def planted(data):
    assert b"Con" not in data
tests.fuzz_targets.TARGETS["mime"] = planted
tests.fuzz.fuzz("mime", 20, Path({str(tmp_path / "corpus")!r}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode != 0
    assert "AssertionError" in ended.stdout + ended.stderr
    assert list(tmp_path.glob("mime-crash-*"))


def test_a_short_round_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "mime", "--seconds", "2", "--corpus", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "Done" in ended.stderr
    assert len(list(tmp_path.iterdir())) > 4, "it came upon more than its seeds"
