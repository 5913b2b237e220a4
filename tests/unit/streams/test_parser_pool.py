"""Who has a processor: parsers that let others go first, and how long a process has had none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from streams.parser_pool import ParserPool, PoolConfig, queued_seconds


def test_the_time_in_which_a_processor_is_waited_for_is_counted_with_all_below() -> None:
    """Two that share one processor: each waits for the other."""
    place = f"os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})"
    burn = f"import os\n{place}\nos.fork()\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", burn], start_new_session=True) as process:
        try:
            while queued_seconds(process.pid) < 0.5:
                time.sleep(0.05)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert queued_seconds(process.pid) == 0, "it is gone"


async def test_others_go_before_parsers_that_are_told_so(tmp_path: Path) -> None:
    async with ParserPool(PoolConfig(tmp_path, processes=1, niceness=5)) as pool:
        [parser] = pool._idle
        niceness = min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)
        assert os.getpriority(os.PRIO_PROCESS, parser.pid) == niceness
        session = Path(f"/proc/{parser.pid}/autogroup")  # of its own, which begins with none
        assert not session.exists() or session.read_text().split()[-2:] == ["nice", str(niceness)]
