"""Whether a schema may follow an earlier one: records written by either must be read by both.

Topics keep records for weeks or for good, and other teams upgrade after us. So within a major version a
change may add optional fields and reword descriptions, and nothing else.
"""

from typing import Any

from schemas.export import Schema, inlined

_WORDS = {"$schema", "title", "description", "x-version"}
_STRUCTURE = {"properties", "required", "items", "additionalProperties"}
# May change with a new minor version: says who may read the field, not what it holds.
_ADVICE = {"x-privacy"}


def incompatibilities(earlier: Schema, later: Schema) -> list[str]:
    """What of ``later`` breaks who knows ``earlier``, or records of its time; empty where nothing does."""
    return _compare(inlined(earlier), inlined(later), "")


def is_same(one: Schema, other: Schema) -> bool:
    """Whether they differ in words at most."""
    same: bool = _wordless(inlined(one)) == _wordless(inlined(other))
    return same


def _compare(earlier: Any, later: Any, place: str) -> list[str]:
    found = []
    here = place or "the event"
    for keyword in sorted((earlier.keys() | later.keys()) - _WORDS - _STRUCTURE - _ADVICE):
        was, is_now = earlier.get(keyword), later.get(keyword)
        if was != is_now:
            found.append(f"{here}: {keyword} was {_shown(was)}, is {_shown(is_now)}")
    for keyword in ("items", "additionalProperties"):
        was, is_now = earlier.get(keyword), later.get(keyword)
        if isinstance(was, dict) and isinstance(is_now, dict):
            found += _compare(was, is_now, f"{place}[]")
        elif was != is_now:
            found.append(f"{here}: {keyword} has changed")
    fields, new_fields = earlier.get("properties", {}), later.get("properties", {})
    required, now_required = set(earlier.get("required", ())), set(later.get("required", ()))
    for name in fields:
        field = f"{place}.{name}" if place else name
        if name not in new_fields:
            found.append(f"{field}: was removed")
            continue
        if (name in required) != (name in now_required):
            found.append(f"{field}: was {_need(name in required)}, is {_need(name in now_required)}")
        found += _compare(fields[name], new_fields[name], field)
    found += [
        f"{place}.{name}".removeprefix(".") + ": is new and required; old records lack it"
        for name in new_fields
        if name not in fields and name in now_required
    ]
    return found


def _need(required: bool) -> str:
    return "required" if required else "optional"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _wordless(node: Any) -> Any:
    if isinstance(node, list):
        return [_wordless(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("properties"), dict):
        # Fields may be called title or description.
        fields = {name: _wordless(field) for name, field in node["properties"].items()}
        rest = {key: value for key, value in node.items() if key != "properties"}
        return {**_wordless(rest), "properties": fields}
    return {key: _wordless(value) for key, value in node.items() if key not in _WORDS}
