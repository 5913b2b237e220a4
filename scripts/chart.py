"""Write what the chart repeats of the settings: ``python scripts/chart.py``. A test holds it current.

- ``helm/values.yaml``: the blocks of settings, with the defaults that suit a container, secrets and files
- ``helm/values.schema.json``: what settings, secrets and files there are
- ``helm/README.md``: every value
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pydantic import SecretStr  # noqa: E402

from cli.settings import Settings  # noqa: E402

HELM = ROOT / "helm"
BEGIN, END = "# <settings>\n", "# </settings>\n"

# Where a container differs from a machine. The servers' addresses are those of helm/examples.
DEFAULTS: dict[str, object] = {
    "kafka_bootstrap": "mailstream-kafka-bootstrap:9092",
    "elasticsearch_url": "https://mailstream-es-http:9200",
    "push_host": "0.0.0.0",  # noqa: S104 - NetworkPolicies say who may come
    "serve_host": "0.0.0.0",  # noqa: S104
    "ephemeral_directory": "/run/mailstream/ephemeral",
    "state_directory": "/var/lib/mailstream",
    "metrics_port": 9464,
}
# What pydantic allows and a container does not (a free port that nobody knows, no probes), and what a process
# would only say once it runs.
NARROWER: dict[str, dict[str, object]] = {
    "push_port": {"minimum": 1024},
    "serve_port": {"minimum": 1024},
    "metrics_port": {"minimum": 1024},
    "kafka_bootstrap": {"pattern": r"^\S+:\d+$"},
    "elasticsearch_url": {"pattern": r"^https?://\S+$"},
    "ephemeral_directory": {"pattern": "^/.+/.+"},
    "state_directory": {"pattern": "^/.+"},
}
DIRECTORIES = {"ephemeral_directory", "state_directory", "legacy_directory"}
# The one secret that nobody can do without.
SECRETS = {"credentials_key": "mailstream"}


def secrets() -> list[str]:
    """The settings that are secrets: values name where they stand."""
    return [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def files() -> list[str]:
    """The settings that are files: values name whence they are mounted."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if "Path" in str(field.annotation) and name not in DIRECTORIES
    ]


def plain() -> list[str]:
    """All other settings: values say them."""
    elsewhere = {*secrets(), *files()}
    return [name for name in Settings.model_fields if name not in elsewhere]


def values_with_settings(text: str) -> str:
    """``values.yaml`` with the blocks of settings, secrets and files written anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    fields = Settings.model_fields
    lines = ["# Every setting, by its environment variable's name in lower case.", "settings:"]
    for name in plain():
        default = DEFAULTS.get(name, fields[name].default)
        lines += [f"  # {fields[name].description}.", f"  {name}: {json.dumps(default)}"]
    lines += [
        "",
        "# Where secret settings stand: a Secret's name and the key in it; no name: not set.",
        "secrets:",
    ]
    for name in secrets():
        secret = json.dumps(SECRETS.get(name, ""))
        lines += [f"  # {fields[name].description}.", f"  {name}: {{secret: {secret}, key: {name}}}"]
    lines += [
        "",
        "# Settings that are files: a key of a Secret, or (configMap: NAME) of a ConfigMap; mounted.",
        "files:",
    ]
    for name in files():
        lines += [f"  # {fields[name].description}.", f'  {name}: {{secret: "", key: {name}}}']
    return f"{head}{BEGIN}" + "\n".join(lines) + f"\n{END}{tail}"


def schema_with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """``values.schema.json`` with settings, secrets and files written anew."""
    properties = Settings.model_json_schema()["properties"]
    settings = {}
    for name in plain():
        known = properties[name]
        kept = {key: known[key] for key in known if key not in ("title", "default", "format")}
        settings[name] = kept | NARROWER.get(name, {})
    closed = {"type": "object", "additionalProperties": False}
    definitions = {
        "settings": closed | {"properties": settings},
        "secrets": closed | {"properties": {name: {"$ref": "#/$defs/secretKey"} for name in secrets()}},
        "files": closed | {"properties": {name: {"$ref": "#/$defs/fileKey"} for name in files()}},
    }
    return schema | {"$defs": schema["$defs"] | definitions}


def readme_with_values(text: str, values: str) -> str:
    """``README.md`` with the table of all values, and the comments that stand above them, written anew."""
    head, marker, _ = text.partition("<!-- values -->\n")
    rows = ["| value | default | meaning |", "|---|---|---|"]
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in values.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            if stripped + "\n" not in (BEGIN, END):
                comment.append(stripped.lstrip("# "))
            continue
        name, colon, value = stripped.partition(":")
        if not stripped or not colon or stripped.startswith("- ") or " " in name:
            comment = []
            continue
        indent = len(line) - len(line.lstrip())
        path = [(depth, known) for depth, known in path if depth < indent] + [(indent, name)]
        meaning = " ".join(comment).replace("|", "\\|")
        if value.strip() or meaning:
            shown = f"`{value.strip()}`" if value.strip() else ""
            rows.append(f"| `{'.'.join(known for _, known in path)}` | {shown} | {meaning} |")
        comment = []
    return head + marker + "\n".join(rows) + "\n"


def generated() -> dict[Path, str]:
    """What each file must hold."""
    values = values_with_settings((HELM / "values.yaml").read_text(encoding="utf-8"))
    yaml.safe_load(values)
    schema = json.loads((HELM / "values.schema.json").read_text(encoding="utf-8"))
    return {
        HELM / "values.yaml": values,
        HELM / "values.schema.json": json.dumps(schema_with_settings(schema), indent=2) + "\n",
        HELM / "README.md": readme_with_values((HELM / "README.md").read_text(encoding="utf-8"), values),
    }


def main() -> None:
    """Write them."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
