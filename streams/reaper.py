"""The ephemeral directory: who may enter it, and that nothing in it grows old.

Parsers, tesseract and clamd write there, and a process that is killed leaves what it had written. Nothing is
asked of who made it: what is older than SECONDS goes, out of the places of living parsers too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import ConfigurationError
from connectors.metrics import ephemeral_bytes_gauge, ephemeral_oldest_gauge, ephemeral_reaped_counter

log = logging.getLogger(__name__)

SECONDS = 30.0
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Round:
    """What a round removed (files and directories), and what it left (files only)."""

    removed: int = 0
    files: int = 0
    size_bytes: int = 0
    oldest_seconds: float = 0.0


def sweep(directory: Path) -> Round:
    """At start: make the directory ours alone, and remove what a dead process left in it. Raises
    ConfigurationError where that cannot be."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = os.open(directory, _DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"EPHEMERAL_DIRECTORY {directory}: {error.strerror}") from error
    try:
        if os.fstat(root).st_uid != os.geteuid():
            raise ConfigurationError(f"EPHEMERAL_DIRECTORY {directory} belongs to another user")
        os.fchmod(root, 0o700)
    finally:
        os.close(root)
    return reap(directory)


def live_in(directory: Path) -> int:
    """Say that a process lives in this directory: the reaper takes what is old in it, but not the directory
    itself. Returns the descriptor that says so until its last copy is closed."""
    descriptor = os.open(directory, _DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def reap(directory: Path, older_than_seconds: float = SECONDS) -> Round:
    """Remove what is older, whoever made it. Follows no link, and what somebody else removes meanwhile is
    fine; a directory that is not there is empty. Raises ConfigurationError where it cannot be read."""
    done = Round()
    try:
        root = os.open(directory, _DIRECTORY)
    except FileNotFoundError:
        return done
    except OSError as error:
        raise ConfigurationError(f"EPHEMERAL_DIRECTORY {directory}: {error.strerror}") from error
    try:
        _empty(root, time.time(), older_than_seconds, done)
    finally:
        os.close(root)
    return done


def reap_and_measure(directory: Path) -> Round:
    """A round of the reaper's, told to the metrics. Raises ConfigurationError."""
    done = reap(directory)
    ephemeral_reaped_counter.inc(done.removed)
    ephemeral_bytes_gauge.set(done.size_bytes)
    ephemeral_oldest_gauge.set(done.oldest_seconds)
    return done


def _empty(parent: int, now: float, limit_seconds: float, done: Round) -> bool:
    """Remove what is old in an open directory; returns whether nothing is left in it."""
    left = 0
    for name in os.listdir(parent):
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            age_seconds = _age_seconds(status, now)
            if stat.S_ISDIR(status.st_mode):
                gone = _remove_directory(parent, name, now, limit_seconds, done)
            else:
                gone = age_seconds > limit_seconds and _done(os.unlink, name, parent, done)
                if not gone:
                    done.files += 1
                    done.size_bytes += status.st_size
                    done.oldest_seconds = max(done.oldest_seconds, age_seconds)
        except FileNotFoundError:
            continue
        left += not gone
    return left == 0


def _remove_directory(parent: int, name: str, now: float, limit_seconds: float, done: Round) -> bool:
    """A directory is as old as the newest thing in it; an empty one is as old as itself."""
    try:
        opened = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:  # swapped for a link meanwhile, or not ours to enter
        log.warning("%s in the ephemeral directory cannot be entered: %s", name, error.strerror)
        return False
    try:
        age_seconds, removed = _age_seconds(os.fstat(opened), now), done.removed
        if not _empty(opened, now, limit_seconds, done):
            return False
        if done.removed == removed and age_seconds <= limit_seconds:
            return False
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # see ``live_in``
        return _done(os.rmdir, name, parent, done)
    finally:
        os.close(opened)


def _done(remove: Callable[..., None], name: str, parent: int, done: Round) -> bool:
    try:
        remove(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:  # somebody else's, or not empty any more
        log.warning("%s in the ephemeral directory stays: %s", name, error.strerror)
        return False
    done.removed += 1
    return True


def _age_seconds(status: os.stat_result, now: float) -> float:
    """By the earlier of the two times, because a file's own may be set to any date; a time in the future
    says that the clock was set back since, and counts as long ago."""
    return abs(now - min(status.st_mtime, status.st_ctime))
