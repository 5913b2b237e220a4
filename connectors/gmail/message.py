"""Gmail's JSON of a message (``format=full`` or ``raw``) as the project's own tree."""

import base64
import binascii
from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal

from schemas.mime import MAX_DEPTH, MAX_PARAMETER_CHARACTERS, Part, charset_of, parse, readable


@dataclass(frozen=True, slots=True)
class MailMessage:
    """A fetched message. ``history_id`` is the last change that touched it: its labels are as of then.

    ``source`` is the way it came.
    """

    message_id: str
    thread_id: str | None
    history_id: int
    label_ids: tuple[str, ...]
    received_at: int | None  # milliseconds
    size_bytes: int | None
    root: Part
    source: Literal["gmail_api", "imap"] = "gmail_api"


def from_json(resource: dict[str, Any]) -> MailMessage:
    """Read a ``Message`` resource fetched with ``format=full`` or ``format=raw``."""
    received = resource.get("internalDate")
    return MailMessage(
        message_id=resource["id"],
        thread_id=resource.get("threadId"),
        history_id=int(resource.get("historyId", 0)),
        label_ids=tuple(resource.get("labelIds", ())),
        received_at=int(received) if received is not None else None,
        size_bytes=resource.get("sizeEstimate"),
        root=parse(decode_base64url(resource["raw"])) if "raw" in resource else part(resource["payload"]),
    )


def part(payload: dict[str, Any], depth: int = 0) -> Part:
    """Read a ``MessagePart`` resource and everything below it, to MAX_DEPTH. Raises ValueError."""
    content_type = readable(str(payload.get("mimeType") or "text/plain").lower())
    headers = tuple(
        (readable(str(h.get("name", ""))), readable(str(h.get("value", ""))))
        for h in payload.get("headers", ())
    )
    message = _structured(headers)
    body = payload.get("body", {})
    data = decode_base64url(body["data"]) if "data" in body else None
    if data is None and "attachmentId" not in body:
        data = b""
    # Gmail opens a nested mail too; to us it is a leaf, whose contents the engine numbers.
    nested = payload.get("parts", ()) if content_type.startswith("multipart/") and depth < MAX_DEPTH else ()
    children = tuple(part(child, depth + 1) for child in nested)
    return Part(
        content_type=content_type,
        headers=headers,
        filename=readable(payload.get("filename") or "") or None,
        disposition=message.get_content_disposition(),
        charset=_charset(content_type, data, charset_of(message)),
        children=children,
        size_bytes=None if children else body.get("size"),
        body=None if children else data,
        reference=body.get("attachmentId"),
    )


def _structured(headers: tuple[tuple[str, str], ...]) -> Message:
    message = Message()
    for name, value in headers:
        if name.lower() in {"content-type", "content-disposition"} and name not in message:
            message[name] = value[:MAX_PARAMETER_CHARACTERS]
    return message


def _charset(content_type: str, data: bytes | None, declared: str | None) -> str | None:
    # In ``full`` Gmail has already turned most text into UTF-8, whatever the header still says.
    if data is None or not content_type.startswith("text/"):
        return declared
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return declared
    return "utf-8"


def decode_base64url(text: str) -> bytes:
    """Decode base64url, padded or not. Raises ``ValueError`` when it is no base64."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(f"not base64url: {error}") from error
