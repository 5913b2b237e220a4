"""What keeps a parser process to its work: it may read the system's programs and write one small directory.

Each protection is taken where kernel and deployment permit it; those in force are named in ``PROTECTIONS``'
words, so that a worker says at start what it has. As root, a parser becomes a user of its own; otherwise it
lives in a user namespace. Linux only.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from streams.reaper import live_in

PROTECTIONS = (
    "process group",
    "rlimits",
    "no new privileges",
    "own processes",  # a PID namespace: whatever a parser starts dies with it
    "own files",  # a tmpfs of its own, of bounded size and number of files, gone with the process
    "process limit",
    "landlock",  # reads programs and libraries, writes its own directory, and reaches no process outside
    "seccomp",  # no sockets, no tracing, no mounts, no namespaces
    "no network",
)
MAX_OPEN_FILES = 256
MAX_PROCESSES = 32  # threads count: the parser, tesseract, and what libraries start
MAX_FILES = 2_048
# User ids that no account has; one for each parser, so that none is counted with another.
FIRST_UID = 0x6D000000

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP = 1, 4, 8, 22
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True, slots=True)
class Caps:
    """What one parser process may use; memory is what comes on top of its imports."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int


def run_confined(directory: Path, caps: Caps, work: Callable[[list[str]], None]) -> NoReturn:
    """In a child that was just forked: run ``work`` in a confined process, given its protections; then end.

    The child itself stays outside, ends whatever the confined process leaves, and dies with its own parent.
    """
    active = ["process group", "rlimits"]
    namespaces = _unshare()
    if namespaces:
        active += ["own processes", "no network"]
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    alive = live_in(directory)
    parser = os.fork()
    if parser == 0:
        os.close(alive)  # no way out of its own files
        try:
            work(_confine(directory, caps, active, namespaces))
        finally:
            os._exit(0)
    os.closerange(3, alive)
    os.closerange(alive + 1, MAX_OPEN_FILES)
    _outlive(parser, namespaces)
    os._exit(0)


def _unshare() -> bool:
    """Namespaces for the processes forked from here, and a user namespace where they need one."""
    spaces = _NEWPID | _NEWNET | _NEWIPC | _NEWNS
    if os.geteuid() == 0 and _libc.unshare(spaces) == 0:
        return True
    uid, gid = os.geteuid(), os.getegid()
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # after a change of user /proc/self is root's
    if _libc.unshare(_NEWUSER | spaces) != 0:
        return False
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(line, "ascii")
    return True


def _confine(directory: Path, caps: Caps, active: list[str], namespaces: bool) -> list[str]:
    os.setsid()
    _stay_nice()
    # Numbers differ inside a PID namespace; /proc is still the one of outside.
    number = int(Path("/proc/self").readlink().name)
    landlock_version = _libc.syscall(444, None, 0, 1)
    # Without Landlock another user would be worse off: what it needs may be readable by root alone.
    own_user = os.geteuid() == 0 and landlock_version > 0
    if namespaces and _mount_own_files(directory, caps.file_bytes):
        active.append("own files")
    # Where neither user nor namespace is the parser's own, the worker's processes would be counted too.
    _limit(caps, MAX_PROCESSES if own_user or namespaces else None)
    readable = list(_readable())
    _silence()
    own_user = own_user and _become(FIRST_UID + number, directory)
    _keep_capabilities(1 << _CAP_DAC_READ_SEARCH if own_user else 0)
    if own_user or (namespaces and os.getuid() != 0):
        active.append("process limit")
    # Changed credentials would undo these.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        active.append("no new privileges")
    if landlock_version > 0 and _landlock(landlock_version, directory, readable):
        active.append("landlock")
    if _seccomp():
        active.append("seccomp")
        if not namespaces:
            active.append("no network")
    return [name for name in PROTECTIONS if name in active]


def _outlive(parser: int, namespaces: bool) -> None:
    """Wait for the parser, then end those of its children that had left its process group, where no PID
    namespace did."""
    os.waitpid(parser, 0)
    if not namespaces and os.geteuid() == 0 and os.fork() == 0:
        with contextlib.suppress(OSError):
            os.setresuid(*(FIRST_UID + parser,) * 3)
            os.kill(-1, signal.SIGKILL)  # all of this user's processes at once: a fork bomb outruns a list
        os._exit(0)
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text("latin-1").rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[1]) == os.getpid():
            yield int(process.parent.name)


# --- one by one --------------------------------------------------------------------------------------


def _stay_nice() -> None:
    """Where sessions share the processors (autogroup, sched(7)), a new one begins as important as any."""
    if niceness := os.nice(0):
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def _limit(caps: Caps, processes: int | None) -> None:
    mapped_bytes = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * mmap.PAGESIZE
    for kind, most in (
        (resource.RLIMIT_AS, mapped_bytes + caps.memory_bytes),
        (resource.RLIMIT_CPU, caps.cpu_seconds),
        (resource.RLIMIT_FSIZE, caps.file_bytes),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),  # a core dump would be an attachment on a disk
    ):
        resource.setrlimit(kind, (most, most))
    if processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def _silence() -> None:
    """What a library prints may quote the document: it must not reach the worker's log."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _mount_own_files(directory: Path, size_bytes: int) -> bool:
    options = f"mode=0700,size={size_bytes},nr_inodes={MAX_FILES}".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    # What is mounted here must not be seen outside, nor outlive the process.
    if _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    return bool(_libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", flags, options) == 0)


def _become(uid: int, directory: Path) -> bool:
    """Leave root for a user that owns nothing but ``directory``."""
    _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        os.chown(directory, uid, uid)
        os.setgroups([])
        os.setresuid(uid, uid, uid)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        os.chown(directory, 0, -1)  # a container of few users or capabilities
        return False
    return True


def _keep_capabilities(mask: int) -> None:
    """Only these, over ``exec`` too: what root installed must stay readable, Landlock says what of it."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _libc.capset(header, struct.pack("=6I", mask, mask, mask, 0, 0, 0))
    if mask:
        _libc.prctl(_PR_CAP_AMBIENT, 2, _CAP_DAC_READ_SEARCH, 0, 0)


_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/opt", "/sys/devices/system/cpu"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/etc/fonts", "/etc/mime.types", "/etc/magic", "/etc/passwd", "/etc/nsswitch.conf"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)


def _readable() -> Iterator[Path]:
    """Programs, libraries, Python, and the packages in use; not the folder they were started in: a file of
    settings may lie there."""
    yield from map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix))
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        if "." not in name and file.name == "__init__.py":
            yield file.parent
    for entry in sys.path:
        if Path(entry).name in ("site-packages", "dist-packages"):
            yield Path(entry)


_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read directory
_ON_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15


def _landlock(version: int, directory: Path, readable: list[Path]) -> bool:
    # Each version of Landlock knows more kinds of access: what is not named is not handled.
    files = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    network = 3 if version >= 4 else 0  # bind and connect
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals
    attributes = struct.pack("=QQQ", files, network, scoped)
    ruleset = _libc.syscall(444, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    allowed = [(path, _READ) for path in readable]
    for path, access in (*allowed, (Path("/dev/null"), _ON_FILES), (directory, files & ~(1 << 0))):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has every path
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _ON_FILES
        rule = struct.pack("=Qi", access & files, descriptor)
        _libc.syscall(445, ruleset, 1, rule, 0)
        os.close(descriptor)
    restricted: int = _libc.syscall(446, ruleset, 0)
    os.close(ruleset)
    return restricted == 0


# By machine: what Linux calls it, then the numbers of socket, connect, bind, listen, accept, accept4, ptrace,
# process_vm_readv, process_vm_writev, mount, umount2, pivot_root, unshare, setns, add_key, request_key,
# keyctl, bpf, perf_event_open, userfaultfd, open_by_handle_at, kexec_load, init_module, finit_module.
_DENIED = {
    "x86_64": (
        0xC000003E,
        *(41, 42, 49, 50, 43, 288, 101, 310, 311, 165, 166, 155, 272, 308, 248, 249, 250),
        *(321, 298, 323, 304, 246, 175, 313),
    ),
    "aarch64": (
        0xC00000B7,
        *(198, 203, 200, 201, 202, 242, 117, 270, 271, 40, 39, 41, 97, 268, 217, 218, 219),
        *(280, 241, 282, 265, 104, 105, 273),
    ),
}
# The same everywhere: io_uring_setup (sockets by another door), open_tree, move_mount, fsopen, pidfd_getfd,
# mount_setattr.
_DENIED_ANYWHERE = (425, 428, 429, 430, 438, 442)
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of classic BPF
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_FIRST_X32 = 0x40000000


def _seccomp() -> bool:
    """Refuse system calls that no parser needs."""
    machine, *denied = _DENIED.get(platform.machine(), (0,))
    if not denied:
        return False
    denied += _DENIED_ANYWHERE
    refuse_in = len(denied) + 1  # instructions from the first test to the refusal
    program = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 0, refuse_in + 2, machine),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, refuse_in, 0, _FIRST_X32),
        *((_EQUAL, refuse_in - index - 1, 0, number) for index, number in enumerate(denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)
