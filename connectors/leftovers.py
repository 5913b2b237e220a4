"""What the old fetcher left behind: attachment files without a record, and records without a file.

It kept each attachment as a file below one directory, and a record of it in one PostgreSQL table. Where one
of the two was lost, the other is an orphan: it is found here, and removed only as it was when it was found.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from connectors.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    import psycopg

RECORDS_A_FETCH = 10_000
RECORDS_A_DELETE = 500
BLOCK_BYTES = 1024 * 1024

Result = Literal["removed", "gone already", "not an orphan any more", "changed since", "refused"]


@dataclass(frozen=True, slots=True)
class Store:
    """Where the old fetcher kept things. ``path_column`` holds paths as they are from ``directory`` or from
    the root; ``table`` may be ``schema.table``."""

    directory: Path
    database_url: str
    table: str = "attachments"
    id_column: str = "id"
    path_column: str = "path"


@dataclass(frozen=True, slots=True)
class OrphanFile:
    """A regular file that no record names. ``path`` from the directory; times in nanoseconds since 1970."""

    path: str
    size_bytes: int
    modified_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class OrphanRecord:
    """A record whose file is not there. ``record_id`` as text, ``path`` as the record has it."""

    record_id: str
    path: str


@dataclass(slots=True)
class Leftovers:
    """What was found, and what was only counted and is left alone."""

    files: list[OrphanFile] = field(default_factory=list)
    records: list[OrphanRecord] = field(default_factory=list)
    files_seen: int = 0
    records_seen: int = 0
    recent_files: int = 0  # without a record, but so new that it may still come
    special_files: int = 0  # links, sockets: not the fetcher's
    unreadable: int = 0  # files and folders that may not be read
    without_path: int = 0  # records that name no file
    outside: int = 0  # records whose path leads out of the directory


@contextmanager
def _connected(store: Store) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Raises UnavailableError, and ConfigurationError for a wrong address, table or column."""
    try:
        import psycopg
    except ImportError as error:
        raise ConfigurationError("PostgreSQL needs an extra: pip install 'mailstream[imap]'") from error
    try:
        with psycopg.connect(store.database_url, connect_timeout=10) as connection:
            yield connection
    except psycopg.errors.UndefinedTable as error:
        raise ConfigurationError(f"there is no table {store.table}: see LEGACY_TABLE") from error
    except psycopg.errors.UndefinedColumn as error:
        columns = f"{store.id_column} and {store.path_column}"
        raise ConfigurationError(
            f"{store.table} has not the columns {columns}: see LEGACY_ID_COLUMN, LEGACY_PATH_COLUMN"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(f"the database does not let us: {str(error).splitlines()[0]}") from error
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"LEGACY_DATABASE_URL cannot be used: {str(error).splitlines()[0]}"
        ) from error
    except psycopg.OperationalError as error:
        # The address is a secret: of what the library says, the first line names host and port only.
        raise UnavailableError(f"PostgreSQL does not answer: {str(error).splitlines()[0]}") from error


def _plain(path: str) -> str:
    """The same name however it was composed: a database and a disk need not agree on that."""
    return unicodedata.normalize("NFC", path)


def find(store: Store, older_than_seconds: float = 86_400.0) -> Leftovers:
    """Compare the directory with the table; nothing is changed.

    The directory is read before the table, and a record's missing file is looked for once more: what the old
    fetcher writes meanwhile is no orphan. Files younger than ``older_than_seconds`` are left alone.

    Raises ConfigurationError and UnavailableError.
    """
    found = Leftovers()
    if not store.directory.is_dir():
        raise ConfigurationError(f"LEGACY_DIRECTORY {store.directory} is no directory that can be read")
    files = _files(store.directory, found)
    known: set[str] = set()
    with _connected(store) as connection:
        for record_id, path in _records(connection, store):
            found.records_seen += 1
            if not path:
                found.without_path += 1
                continue
            inside = _inside(store.directory, path)
            if inside is None:
                found.outside += 1
                continue
            known.add(_plain(inside))
            if _plain(inside) not in files and not _exists(store.directory / inside):
                found.records.append(OrphanRecord(record_id, path))
    newest = time.time_ns() - int(older_than_seconds * 1e9)
    for name in sorted(files.keys() - known):
        for path, state in files[name]:
            if state.st_mtime_ns > newest:
                found.recent_files += 1
            elif (sha256 := _sha256(store.directory / path)) is None:
                found.unreadable += 1
            else:
                found.files.append(OrphanFile(path, state.st_size, state.st_mtime_ns, sha256))
    return found


def _files(directory: Path, found: Leftovers) -> dict[str, list[tuple[str, os.stat_result]]]:
    """The regular files by their plain name; two may differ in how it is composed."""
    files: dict[str, list[tuple[str, os.stat_result]]] = {}

    def unreadable(_error: OSError) -> None:
        found.unreadable += 1

    for folder, _, names in os.walk(directory, onerror=unreadable):
        for name in names:
            whole = Path(folder, name)
            try:
                state = whole.lstat()
            except OSError:  # gone meanwhile
                continue
            if not stat.S_ISREG(state.st_mode):
                found.special_files += 1
                continue
            found.files_seen += 1
            path = str(whole.relative_to(directory))
            files.setdefault(_plain(path), []).append((path, state))
    return files


def _records(
    connection: psycopg.Connection[tuple[Any, ...]], store: Store
) -> Iterator[tuple[str, str | None]]:
    """Every record's id and path, read from the server piece by piece."""
    from psycopg import sql

    query = sql.SQL("SELECT {id}::text, {path}::text FROM {table}").format(
        id=sql.Identifier(store.id_column),
        path=sql.Identifier(store.path_column),
        table=sql.Identifier(*store.table.split(".", 1)),
    )
    with connection.cursor(name="mailstream_leftovers") as cursor:
        cursor.itersize = RECORDS_A_FETCH
        cursor.execute(query)
        yield from cursor


def _inside(directory: Path, path: str) -> str | None:
    """The path from the directory on; None where it leads out of it."""
    whole = os.path.normpath(directory / PurePosixPath(path))
    inside = os.path.relpath(whole, directory)
    return None if inside == ".." or inside.startswith("../") else inside


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # cannot be told: no reason to remove its record
    return True


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def remove_file(store: Store, orphan: OrphanFile) -> Result:
    """Remove a file if it is still the one that was found. Whether it is an orphan still, ``find`` says."""
    path = store.directory / orphan.path
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or (state.st_size, state.st_mtime_ns) != (
            orphan.size_bytes,
            orphan.modified_ns,
        ):
            return "changed since"
        path.unlink()
    except FileNotFoundError:
        return "gone already"
    except OSError:
        return "refused"
    return "removed"


def remove_records(
    store: Store, orphans: Sequence[OrphanRecord]
) -> Iterator[list[tuple[OrphanRecord, Result]]]:
    """Remove records, some at a time, each batch committed before it is given; a record that the database
    keeps (others refer to it) is ``refused``, one that has a file by now or says another path is left.

    Raises ConfigurationError and UnavailableError.
    """
    from psycopg import IntegrityError, sql

    names = {
        "table": sql.Identifier(*store.table.split(".", 1)),
        "id": sql.Identifier(store.id_column),
        "path": sql.Identifier(store.path_column),
    }
    look = sql.SQL("SELECT {path}::text FROM {table} WHERE {id}::text = %s FOR UPDATE").format(**names)
    remove = sql.SQL("DELETE FROM {table} WHERE {id}::text = %s AND {path}::text = %s").format(**names)
    with _connected(store) as connection:
        for start in range(0, len(orphans), RECORDS_A_DELETE):
            done: list[tuple[OrphanRecord, Result]] = []
            with connection.transaction():
                for orphan in orphans[start : start + RECORDS_A_DELETE]:
                    rows = connection.execute(look, (orphan.record_id,)).fetchall()
                    inside = _inside(store.directory, orphan.path)
                    result: Result = "removed"
                    if not rows:
                        result = "gone already"
                    elif (orphan.path,) not in rows:
                        result = "changed since"
                    elif inside is None or _exists(store.directory / inside):
                        result = "not an orphan any more"
                    else:
                        try:
                            with connection.transaction():
                                connection.execute(remove, (orphan.record_id, orphan.path))
                        except IntegrityError:
                            result = "refused"
                    done.append((orphan, result))
            yield done
