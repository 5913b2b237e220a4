"""Partial responses: the ``fields`` parameter, such as ``messages(id,threadId),nextPageToken``."""

from typing import Any

Mask = dict[str, "Mask"]


def apply_fields(resource: dict[str, Any], fields: str) -> dict[str, Any]:
    """The part of ``resource`` that ``fields`` names. A mask that cannot be read changes nothing."""
    try:
        mask, end = _parse(fields, 0)
    except ValueError:
        return resource
    return _select(resource, mask) if end == len(fields) else resource


def _parse(text: str, position: int) -> tuple[Mask, int]:
    """Read ``a,b/c,d(e,f)`` up to a closing parenthesis or the end."""
    mask: Mask = {}
    while True:
        target = mask
        while True:
            start = position
            while position < len(text) and text[position] not in ",/()":
                position += 1
            name = text[start:position].strip()
            if not name:
                raise ValueError(f"no field name at {start}")
            target = target.setdefault(name, {})
            if position >= len(text) or text[position] != "/":
                break
            position += 1
        if position < len(text) and text[position] == "(":
            inner, position = _parse(text, position + 1)
            if position >= len(text) or text[position] != ")":
                raise ValueError("a parenthesis is not closed")
            target.update(inner)
            position += 1
        if position >= len(text) or text[position] != ",":
            return mask, position
        position += 1


def _select(value: Any, mask: Mask) -> Any:
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [_select(item, mask) for item in value]
    if isinstance(value, dict):
        return {name: _select(value[name], inner) for name, inner in mask.items() if name in value}
    return value
