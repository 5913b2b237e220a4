"""A parser that somebody has taken over, seen from inside: each protection that is said to be in force is."""

import asyncio
import os
import socket
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import pytest_asyncio

from schemas.outcomes import Outcome
from streams import parser_pool
from streams.ephemeral import AttachmentResult, EngineConfig, EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE
from streams.parser_pool import PoolConfig
from streams.sandbox import MAX_FILES, MAX_OPEN_FILES, MAX_PROCESSES, PROTECTIONS
from tests.processes import descendants, program

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = ("-m", "tests.hostile_parser")
BARE = (*HOSTILE, "--without-namespaces")
SECRET = "a-key-that-no-parser-may-see"
Run = Callable[..., Coroutine[None, None, AttachmentResult]]
# What is to hang is read in the fast lane, which ends it then; all else has time.
HANGS_SECONDS = 2.0
# By its name a process is found whoever its parent is then; of 15 letters at most, see PR_SET_NAME.
NAME = f"seen-{os.getpid()}"
TAKE_NAME = f"import ctypes; ctypes.CDLL(None).prctl(15, b'{NAME}')"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ephemeral")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[HOSTILE, BARE], ids=["full", "bare"])
async def engine(
    request: pytest.FixtureRequest, directory: Path
) -> AsyncIterator[EphemeralAttachmentHandler]:
    """With every protection, and as where no namespaces may be made (most containers)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser_pool, "PROGRAM", request.param)
        patch.setenv("CREDENTIALS_KEY", SECRET)
        config = EngineConfig(deadline_seconds=HANGS_SECONDS, ocr_page_seconds=120.0)
        pool = PoolConfig(directory, processes=1, memory_bytes=512 * MEBIBYTE, file_bytes=8 * MEBIBYTE)
        async with EphemeralAttachmentHandler(pool, config) as handler:
            yield handler


@pytest.fixture
def run(engine: EphemeralAttachmentHandler) -> Run:
    async def run(program: str, hangs: bool = False) -> AttachmentResult:
        payload = textwrap.dedent(program).encode()
        return await engine.process_attachment(payload, "text/x-python", ocr=not hangs)

    return run


@pytest.fixture
def has_namespaces(engine: EphemeralAttachmentHandler) -> bool:
    return "own processes" in engine._pool.protections


async def test_root_on_linux_has_every_protection(engine: EphemeralAttachmentHandler) -> None:
    missing = set(PROTECTIONS) - set(engine._pool.protections)
    if os.geteuid() == 0:
        assert missing in (set(), {"own processes", "own files"})
    assert {"process group", "rlimits", "no new privileges"} <= set(engine._pool.protections)


async def test_no_network_and_no_socket_of_a_neighbour(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "clamd.sock"))
        unix.listen()
        result = await run(f"""
            import socket
            for family, address in ((socket.AF_INET, {tcp.getsockname()!r}),
                                    (socket.AF_UNIX, {str(tmp_path / "clamd.sock")!r})):
                try:
                    socket.socket(family).connect(address)
                    print("reached", address)
                except OSError as error:
                    print("refused")
        """)
    assert result.text.split() == ["refused", "refused"]


async def test_it_sees_no_credentials_and_no_other_process(
    run: Run, engine: EphemeralAttachmentHandler, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(SECRET)
    key_file.chmod(0o644)
    assert engine._pool._nursery is not None
    nursery = engine._pool._nursery.pid
    result = await run(f"""
        import ctypes, os, signal
        print(sorted(os.environ))
        for path in ("/proc/{os.getpid()}/environ", "/proc/{os.getpid()}/mem", "/proc/{os.getpid()}/cmdline",
                     "/proc/{nursery}/environ", "/proc/{nursery}/mem", "/etc/shadow", "{key_file}",
                     "/proc/self/environ", "{Path(__file__).parents[3]}/pyproject.toml"):
            try:
                open(path, "rb").read()
                print("READ", path)
            except OSError:
                pass
        for act in (lambda: os.kill({os.getpid()}, 0), lambda: os.kill(os.getppid() or 1 << 22, 0),
                    lambda: os.listdir("/tmp"), lambda: os.listdir("/"), lambda: os.listdir("/proc")):
            try:
                act()
                print("DID IT")
            except OSError:
                pass
        libc, taken = ctypes.CDLL(None), ctypes.create_string_buffer(8)
        local, remote = ((ctypes.c_void_p * 2)(at, 8) for at in (ctypes.addressof(taken), {id(SECRET)}))
        for victim in ({os.getpid()}, {nursery}):
            print("traced:", libc.ptrace(16, victim, 0, 0))
            print("looked into:", libc.process_vm_readv(victim, local, 1, remote, 1, 0))
    """)
    assert "READ /" not in result.text and "DID IT" not in result.text, result.text
    assert "CREDENTIALS_KEY" not in result.text and SECRET not in result.text
    assert result.text.count("traced: -1") == result.text.count("looked into: -1") == 2, result.text


async def test_it_writes_in_its_own_directory_only(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_bytes(b"safe")
    result = await run(f"""
        import os, tempfile
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"scratch")
        for path in ({str(target)!r}, "/dev/shm/left", "/var/tmp/left", "/tmp/left", "/left",
                     os.path.join(os.path.dirname(tempfile.gettempdir()), "left")):
            for mode in ("r+b", "wb"):
                try:
                    open(path, mode).write(b"left behind")
                    print("WROTE", path)
                except OSError:
                    pass
        try:
            os.unlink({str(target)!r})
            print("REMOVED")
        except OSError:
            pass
    """)
    assert result.outcome is Outcome.EMPTY, result.text
    assert target.read_bytes() == b"safe"


async def test_its_files_are_few_and_small(run: Run, has_namespaces: bool) -> None:
    result = await run("""
        import errno, itertools, os, signal, tempfile
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def fill(name):
            with open(os.path.join(tempfile.gettempdir(), name), "wb") as file:
                for _ in range(64):
                    file.write(bytes(1024 * 1024))
            print("FILLED")
        for name in "abcdefgh":
            try:
                fill(name)
            except OSError as error:
                print(errno.errorcode[error.errno])
        print(sum(entry.stat().st_size for entry in os.scandir(tempfile.gettempdir())) >> 20, "MiB")
        opened = []
        try:
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            print(errno.errorcode[error.errno], len(opened))
        for descriptor in opened:
            os.close(descriptor)
        for name in "abcdefgh":
            os.unlink(os.path.join(tempfile.gettempdir(), name))
        for count in range(5000):
            try:
                open(os.path.join(tempfile.gettempdir(), str(count)), "wb").close()
            except OSError as error:
                print(errno.errorcode[error.errno], count)
                break
    """)
    said = result.text.split("\n")
    # Its own limit ends the first; where all share a file system of that size, the others find it full.
    assert said[0] == "EFBIG", said
    assert set(said[:8]) <= {"EFBIG", "ENOSPC"}, said
    code, opened = said[9].split()
    assert code == "EMFILE" and int(opened) < MAX_OPEN_FILES
    if has_namespaces:
        assert said[8] == "8 MiB"
        code, made = said[10].split()
        assert code == "ENOSPC" and int(made) < MAX_FILES


async def test_it_leaves_no_core_dump(run: Run) -> None:
    """Nor can it change its mind: what may be raised again is 0, too."""
    result = await run("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")
    assert result.text == "(0, 0)"


async def test_too_much_memory_costs_its_document_only(run: Run) -> None:
    result = await run("x = bytearray(600 * 1024 * 1024); print(len(x))")
    assert "MemoryError" in result.text
    assert (await run("print('alive')")).text == "alive"


async def test_processor_time_is_limited_and_a_used_up_parser_replaced(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser_pool, "PROGRAM", HOSTILE)
    config = EngineConfig(ocr_page_seconds=120.0)
    burn = b"import time\nwhile time.process_time() < %.1f: pass\nprint('done')"
    async with EphemeralAttachmentHandler(
        PoolConfig(directory, processes=1, cpu_seconds=2), config
    ) as handler:
        pids = [parser.pid for parser in handler._pool._idle]
        assert (await handler.process_attachment(burn % 0.5, None)).text == "done"
        assert handler._pool._idle == [], "it would not have enough left for another document"
        assert (await handler.process_attachment(burn % 5.0, None)).outcome is Outcome.LIMIT_EXCEEDED
        assert (await handler.process_attachment(b"print('alive')", None)).text == "alive"
        assert pids != [parser.pid for parser in handler._pool._idle]


async def test_who_waits_for_a_processor_is_not_slow(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser_pool, "PROGRAM", HOSTILE)
    config = EngineConfig(ocr_page_seconds=0.5)
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        slowly = b"import time\ntime.sleep(1)\nprint('done')"
        assert (await handler.process_attachment(slowly, None)).outcome is Outcome.TIMED_OUT
        began = time.monotonic()
        monkeypatch.setattr(parser_pool, "queued_seconds", lambda _: time.monotonic() - began)
        assert (await handler.process_attachment(slowly, None)).text == "done"
        for_ever = b"import time\ntime.sleep(99)"
        assert (await handler.process_attachment(for_ever, None)).outcome is Outcome.TIMED_OUT


async def test_a_fork_bomb_stays_small_and_ends(run: Run) -> None:
    bomb = asyncio.create_task(
        run(
            f"""
            {TAKE_NAME}
            import os
            print("lit")
            while True:
                try:
                    if os.fork() == 0:
                        os.setsid()
                except OSError:
                    pass
        """,
            hangs=True,
        )
    )
    most = 0
    while not bomb.done():
        most = max(most, len(named()))
        await asyncio.sleep(0.05)
    assert (await bomb).outcome is Outcome.TIMED_OUT
    assert 4 < most <= MAX_PROCESSES
    await _until(lambda: not named())
    assert (await run("print('alive')")).text == "alive"


async def test_a_child_that_left_the_group_dies_with_its_parser(run: Run, has_namespaces: bool) -> None:
    """By the kernel's hand where the parser is the first of a PID namespace, else by that of its parent, who
    is nobody's first there: both would do, so what each does is looked at."""
    number = (await run("import os; print(os.getpid())")).text
    assert (number == "1") is has_namespaces
    result = await run(
        f"""
        {TAKE_NAME}
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(600)
        os.wait()
        document.facts["pages"] = 1
        document.text("it has left", page=1)
        document.progress()
        time.sleep(600)
    """,
        hangs=True,
    )
    assert (result.outcome, result.text) == (Outcome.TEXT, "it has left")
    await _until(lambda: not named())


async def test_finished_pages_are_kept(run: Run) -> None:
    result = await run(
        """
        import time
        for page in (1, 2):
            document.facts["pages"] = page
            document.text(f"words of page {page}", page=page)
            document.progress()
        time.sleep(600)
    """,
        hangs=True,
    )
    assert (result.outcome, result.metadata.truncated, result.metadata.pages) == (Outcome.TEXT, True, 2)
    assert [segment.page for segment in result.segments] == [1, 2]


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.abort()",
        "import os; os._exit(3)",
        "import ctypes; ctypes.string_at(0)",
        "import os, signal; os.kill(0, signal.SIGKILL); os._exit(1)",
        "document.emit({'type': 'segment', 'path': 7})",
        "document.emit({'type': 'close', 'path': [], 'outcome': 'wonderful'})",
    ],
)
async def test_no_end_of_a_parser_is_the_workers_end(run: Run, program: str) -> None:
    assert (await run(program)).outcome is Outcome.LIMIT_EXCEEDED
    assert (await run("print('alive')")).text == "alive"


async def test_what_a_library_prints_reaches_no_log(
    directory: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an engine of its own: another's parsers have the output that was there when it started."""
    monkeypatch.setattr(parser_pool, "PROGRAM", HOSTILE)
    said = b"import os; os.write(1, b'words of the document'); os.write(2, b'words of the document')"
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), EngineConfig()) as handler:
        await handler.process_attachment(said, None)
        assert (await handler.process_attachment(b"print('alive')", None)).text == "alive"
    out, errors = capfd.readouterr()
    assert "words" not in out + errors


def named() -> list[int]:
    return [pid for pid in descendants(1) if program(pid) == NAME]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0.05)
