"""``mailstream schemas``: what stands in the topics, for other teams and their tools."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import click

from connectors.errors import ConfigurationError

RELEASED = Path("docs/schemas")
_FORMATS = ("json-schema", "avro")
_SUFFIXES = {"json-schema": "json", "avro": "avsc"}
_FILE = re.compile(r"(?P<name>\w+)-(?P<major>\d+)\.(?P<minor>\d+)\.json")
# Whoever reads by an earlier version must read on. By the registry's rules a JSON Schema that tolerates
# unknown fields is never backward compatible once it has a field more, although its readers are: see
# docs/TOPICS.md. ``check`` holds both directions.
_LEVELS = {"json-schema": "FORWARD_TRANSITIVE", "avro": "FULL_TRANSITIVE"}
_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=RELEASED,
    show_default=True,
    help="Where the released schemas lie, one file an event and version.",
)


@click.group()
def schemas() -> None:
    """Export, check and register the schemas of the events in the topics.

    Example: mailstream schemas export --format avro --dir build/schemas
    """


@schemas.command()
@click.option("--format", "formats", type=click.Choice(_FORMATS), multiple=True, help="Only this one.")
@_directory
def export(formats: tuple[str, ...], directory: Path) -> None:
    """Write every event's schema into a directory, as JSON Schema and as Avro.

    A file of an earlier version stays. One of the same version that differs in more than its words is not
    overwritten: that version is out, the event needs a new one.

    Example: mailstream schemas export --dir build/schemas
    """
    from schemas.compatibility import is_same

    written = []
    for name, version, made in _made():
        for kind in formats or _FORMATS:
            path = directory / f"{name}-{version}.{_SUFFIXES[kind]}"
            if kind == "json-schema" and path.exists() and not is_same(_read(path), made[kind]):
                raise ConfigurationError(f"{path} is another schema: raise {name}.schema_version")
            written.append((path, json.dumps(made[kind], indent=2, ensure_ascii=False) + "\n"))
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in written:
        path.write_text(text)
    click.echo(f"{len(written)} files in {directory}")


@schemas.command()
@_directory
def check(directory: Path) -> None:
    """Compare today's events with their released schemas; exit code 1 where that would break somebody.

    Who reads by a released schema must read today's records, and today's readers must read old ones. What has
    changed compatibly needs a higher minor version.

    Example: mailstream schemas check
    """
    found = problems(directory)
    for problem in found:
        click.echo(problem, err=True)
    if found:
        raise SystemExit(1)
    click.echo("every event is as it was released, or follows it compatibly")


def problems(directory: Path) -> list[str]:
    """What is wrong with today's events beside the schemas in ``directory``. Raises ConfigurationError."""
    from schemas.compatibility import incompatibilities, is_same

    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is no directory of schemas: see `mailstream schemas export`")
    released: dict[str, dict[tuple[int, int], Any]] = {}
    for path in sorted(directory.iterdir()):
        if (file := _FILE.fullmatch(path.name)) is not None:
            versions = released.setdefault(file["name"], {})
            versions[int(file["major"]), int(file["minor"])] = _read(path)
    found = []
    for name, version, made in _made():
        today, versions = made["json-schema"], released.pop(name, {})
        number = tuple(map(int, version.split(".")))
        for earlier, schema in sorted(versions.items()):
            if earlier[0] == number[0]:
                what = incompatibilities(schema, today)
                found += [f"{name} breaks {'.'.join(map(str, earlier))}: {change}" for change in what]
        if number not in versions:
            found.append(f"{name} {version} is not among the released: `mailstream schemas export`")
        elif not is_same(versions[number], today):
            found.append(f"{name} has changed since {version} was released: raise its schema_version")
        if versions and number < max(versions):
            found.append(f"{name} {version} is older than what was released")
    return found + [f"{name} was released, and is no more" for name in released]


@schemas.command()
@click.option(
    "--registry",
    required=True,
    envvar="SCHEMA_REGISTRY_URL",
    help="Its address; of Apicurio with /apis/ccompat/v7.",
    show_envvar=True,
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    default="json-schema",
    show_default=True,
    help="What is registered. Records are JSON.",
)
@click.option(
    "--username",
    envvar="SCHEMA_REGISTRY_USERNAME",
    default="",
    show_envvar=True,
    help="Who we are to it, where it asks.",
)
@click.option(
    "--password-file",
    envvar="SCHEMA_REGISTRY_PASSWORD_FILE",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The user's password.",
)
@click.option(
    "--token-file",
    envvar="SCHEMA_REGISTRY_TOKEN_FILE",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Or a bearer token.",
)
@click.option(
    "--ca-file",
    envvar="SCHEMA_REGISTRY_CA_FILE",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Whose certificates it may show; none: the system's authorities.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a schema.")
def register(
    registry: str,
    kind: str,
    username: str,
    password_file: Path | None,
    token_file: Path | None,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    """Publish the schemas to a registry with Confluent's API. Safe to repeat.

    The subjects are called <topic>-mailstream.<event> (TopicRecordNameStrategy). A new one is set to
    FORWARD_TRANSITIVE compatibility (Avro: FULL_TRANSITIVE). Nothing goes on after a refusal.

    Example: mailstream schemas register --registry http://localhost:8081
    """
    from connectors.schema_registry import SchemaRegistry
    from schemas.catalog import CONTRACTS
    from schemas.export import avro, draft_07

    async def publish() -> None:
        password, token = (file.read_text().strip() if file else "" for file in (password_file, token_file))
        async with SchemaRegistry.open(
            registry, username=username, password=password, token=token, ca_file=ca_file
        ) as server:
            for contract in CONTRACTS:
                for event in contract.events:
                    done = await server.register(
                        f"{contract.topic.name}-{event.schema_id()}",
                        avro(event) if kind == "avro" else draft_07(event),
                        "AVRO" if kind == "avro" else "JSON",
                        _LEVELS[kind],
                    )
                    _say(done, as_json)

    asyncio.run(publish())


def _say(done: Any, as_json: bool) -> None:
    if as_json:
        said = {"subject": done.subject, "version": done.version, "id": done.schema_id, "new": done.is_new}
        click.echo(json.dumps(said))
    else:
        state = "registered" if done.is_new else "unchanged "
        click.echo(f"{state}  {done.subject}  version {done.version}, id {done.schema_id}")


def _made() -> list[tuple[str, str, dict[str, Any]]]:
    """Of every event its name, its version, and its schemas by format."""
    from schemas.catalog import EVENTS
    from schemas.export import avro, json_schema, version_of

    return [
        (kind.__name__, version_of(kind), {"json-schema": json_schema(kind), "avro": avro(kind)})
        for kind in EVENTS
    ]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON") from error
