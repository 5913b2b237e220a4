"""What the old fetcher left in a directory and a real PostgreSQL: found exactly, removed only by a plan."""

import asyncio
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.elasticsearch import Index, Write
from connectors.leftovers import OrphanRecord, Store, find, remove_records
from devstack.stack import Stack
from tests.commands import command
from tests.pipelines import emptied
from tests.postgres import postgres

KEPT = 400
ORPHANED_FILES, ORPHANED_RECORDS = 40, 31  # 71, as many as an old fetcher was seen to leave
DAY = 86_400


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


def _old(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 3 * DAY,) * 2)
    return path


@pytest.fixture
def left(database: str, tmp_path: Path) -> Iterator[tuple[Store, set[str], set[str]]]:
    """A store with 71 orphans among what belongs together; which they are."""
    directory = tmp_path / "attachments"
    chance = random.Random(7)
    paths = [f"{n % 7}/{n % 13}/invoice {n} ä.txt" for n in range(KEPT + ORPHANED_FILES + ORPHANED_RECORDS)]
    chance.shuffle(paths)
    kept, lonely = paths[:KEPT], set(paths[KEPT : KEPT + ORPHANED_FILES])
    missing = set(paths[KEPT + ORPHANED_FILES :])
    for path in (*kept, *lonely):
        _old(directory / path, f"contents of {path}".encode())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA old")
        connection.execute('CREATE TABLE old."Files" (number serial PRIMARY KEY, "Where" text)')
        connection.execute(
            'CREATE TABLE old.seen (file int REFERENCES old."Files" (number), PRIMARY KEY (file))'
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO old."Files" ("Where") VALUES (%s)',
                # As fetchers write them: from the directory, from the root, with a dot.
                [
                    ((path, str(directory / path), f"./{path}")[n % 3],)
                    for n, path in enumerate([*kept, *missing])
                ],
            )
        yield Store(directory, database, "old.Files", "number", "Where"), lonely, missing
        connection.execute("DROP SCHEMA old CASCADE")


def _environment(store: Store) -> dict[str, str]:
    return {
        "LEGACY_DIRECTORY": str(store.directory),
        "LEGACY_DATABASE_URL": store.database_url,
        "LEGACY_TABLE": store.table,
        "LEGACY_ID_COLUMN": store.id_column,
        "LEGACY_PATH_COLUMN": store.path_column,
    }


def _state(store: Store) -> tuple[dict[str, tuple[int, int]], list[Any]]:
    files = {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in store.directory.rglob("*")
        if path.is_file()
    }
    with psycopg.connect(store.database_url) as connection:
        return files, connection.execute('SELECT * FROM old."Files" ORDER BY 1').fetchall()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _relative(store: Store, path: str) -> str:
    return os.path.relpath(os.path.normpath(store.directory / path), store.directory)


def test_71_orphans_are_found_planned_and_removed(
    left: tuple[Store, set[str], set[str]], tmp_path: Path
) -> None:
    store, lonely, missing = left
    environment = _environment(store)
    plan, receipt, texts = (tmp_path / name for name in ("plan.jsonl", "receipt.jsonl", "texts.jsonl"))
    before = _state(store)
    code, out, err = command(
        environment, *("imap", "cleanup", "--no-index", "--json", "--plan", str(plan), "--texts", str(texts))
    )
    assert code == 0, err
    counts = json.loads(out)
    assert counts["files_seen"] == KEPT + ORPHANED_FILES
    assert (counts["files_without_record"], counts["records_without_file"]) == (40, 31)
    assert _state(store) == before, "a dry run changed something"
    planned = _lines(plan)[1:]
    assert {line["file"]["path"] for line in planned if "file" in line} == lonely
    assert {_relative(store, line["record"]["path"]) for line in planned if "record" in line} == missing
    assert {line["path"]: line["text"] for line in _lines(texts)} == {
        path: f"contents of {path}" for path in lonely
    }
    assert plan.stat().st_mode & 0o077 == texts.stat().st_mode & 0o077 == 0

    delete = ("imap", "cleanup", "--delete", str(plan), "--receipt", str(receipt), "--yes", "--json")
    code, out, err = command(environment, *delete)
    assert code == 0, err
    assert json.loads(out)["results"] == {"file: removed": 40, "record: removed": 31}
    done = _lines(receipt)
    assert [{k: v for k, v in line.items() if k in ("file", "record")} for line in done] == planned
    files, records = _state(store)
    assert files == {path: state for path, state in before[0].items() if _relative(store, path) not in lonely}
    assert records == [row for row in before[1] if _relative(store, row[1]) not in missing]
    # Once more, as after a crash: nothing more happens, and the receipt says so.
    code, out, err = command(environment, *delete)
    assert json.loads(out)["results"] == {"file: gone already": 40, "record: gone already": 31}
    assert len(_lines(receipt)) == 2 * 71
    assert _state(store) == (files, records)


def test_the_index_says_which_files_it_knows(left: tuple[Store, set[str], set[str]], stack: Stack) -> None:
    store, lonely, _ = left
    emptied(stack)

    async def index_some() -> None:
        async with Index.open(stack.elasticsearch_url) as index:
            await index.ensure()
            for number, path in enumerate(sorted(lonely)[:5]):
                fields = {
                    "kind": "attachment",
                    "mailbox_id": "m",
                    "live": number < 4,  # what is deleted there is found no more
                    "sha256": hashlib.sha256(f"contents of {path}".encode()).hexdigest(),
                }
                assert await index.write([Write(f"d{number}", fields)]) == [None]
            await index.refresh()

    asyncio.run(index_some())
    environment = {**_environment(store), "ELASTICSEARCH_URL": stack.elasticsearch_url}
    code, out, err = command(environment, "imap", "cleanup")
    assert code == 0, err
    assert re.search(r"^ +40  files without record$", out, re.M)
    assert re.search(r"^ +4  of those known to the index$", out, re.M)
    assert out.endswith("Nothing was changed.\n")


def test_what_changed_since_the_plan_stays(left: tuple[Store, set[str], set[str]], tmp_path: Path) -> None:
    store, lonely, missing = left
    plan, receipt = tmp_path / "plan.jsonl", tmp_path / "receipt.jsonl"
    assert command(_environment(store), "imap", "cleanup", "--no-index", "--plan", str(plan))[0] == 0
    changed, adopted, *_ = sorted(lonely)
    come, referred, *_ = sorted(missing)
    _old(store.directory / changed, b"other contents")
    with psycopg.connect(store.database_url, autocommit=True) as connection:
        connection.execute('INSERT INTO old."Files" ("Where") VALUES (%s)', (adopted,))
        connection.execute(
            'INSERT INTO old.seen SELECT number FROM old."Files" WHERE "Where" LIKE %s', (f"%{referred}",)
        )
    _old(store.directory / come, b"here after all")
    code, out, _ = command(
        _environment(store),
        *("imap", "cleanup", "--delete", str(plan), "--receipt", str(receipt), "--yes", "--json"),
    )
    assert code == 1, "one record was refused"
    assert json.loads(out)["results"] == {
        "file: removed": 38,
        "file: changed since": 1,
        "file: not an orphan any more": 1,
        "record: removed": 29,
        "record: not an orphan any more": 1,
        "record: refused": 1,
    }
    assert all((store.directory / path).exists() for path in (changed, adopted, come))


def test_what_is_not_the_fetchers_or_may_still_come_is_left_alone(
    left: tuple[Store, set[str], set[str]], tmp_path: Path
) -> None:
    store, lonely, missing = left
    outside = _old(tmp_path / "elsewhere.txt", b"not below the directory")
    (store.directory / "new.txt").write_bytes(b"its record comes in a moment")
    (store.directory / "link.txt").symlink_to(outside)
    # One name, composed in two ways: one on the disk, the other in the database.
    _old(store.directory / "u\u0308ber.txt", b"composed of two")
    os.mkfifo(store.directory / "pipe")
    with psycopg.connect(store.database_url, autocommit=True) as connection:
        for path in (None, "../elsewhere.txt", "/etc/passwd", "\u00fcber.txt"):
            connection.execute('INSERT INTO old."Files" ("Where") VALUES (%s)', (path,))
    found = find(store)
    assert {orphan.path for orphan in found.files} == lonely
    assert {_relative(store, orphan.path) for orphan in found.records} == missing
    assert (found.recent_files, found.special_files, found.without_path, found.outside) == (1, 2, 1, 2)
    # Even by a plan that somebody wrote, nothing outside is touched.
    [done] = remove_records(store, [OrphanRecord("1", "/etc/passwd")])
    assert done[0][1] == "changed since"
    assert outside.exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"LEGACY_DIRECTORY": "/nowhere"}, "/nowhere is no directory"),
        ({"LEGACY_DATABASE_URL": ""}, "LEGACY_DIRECTORY and LEGACY_DATABASE_URL say where"),
        ({"LEGACY_DATABASE_URL": "postgresql://x:secret@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        ({"LEGACY_DATABASE_URL": "nonsense"}, "LEGACY_DATABASE_URL cannot be used"),
        ({"LEGACY_TABLE": "old.none"}, "there is no table old.none"),
        ({"LEGACY_PATH_COLUMN": "path"}, "has not the columns number and path"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    left: tuple[Store, set[str], set[str]], wrong: dict[str, str], said: str
) -> None:
    code, _, err = command({**_environment(left[0]), **wrong}, "imap", "cleanup", "--no-index")
    assert code == 1
    assert said in err
    assert "secret" not in err
    assert len(err.strip().splitlines()) == 1


def test_a_plan_of_another_place_is_refused(left: tuple[Store, set[str], set[str]], tmp_path: Path) -> None:
    store, *_ = left
    plan, receipt = tmp_path / "plan.jsonl", tmp_path / "receipt.jsonl"
    command(_environment(store), "imap", "cleanup", "--no-index", "--plan", str(plan))
    other = {**_environment(store), "LEGACY_DIRECTORY": str(tmp_path)}
    delete = ("imap", "cleanup", "--delete", str(plan), "--receipt", str(receipt), "--yes")
    before = _state(store)
    assert "was made for another place" in command(other, *delete)[2]
    plan.write_text("no plan\n")
    assert "is no plan of this command" in command(_environment(store), *delete)[2]
    assert _state(store) == before
