"""Decode an attachments.get answer while it arrives, so that it never stands whole in memory."""

import base64
import binascii
import re

from connectors.errors import GmailUnavailableError

_START = re.compile(rb'"data"\s*:\s*"')
# Padding may come as an escaped "=": it adds nothing, so the data ends there too.
_END = re.compile(rb'["=\\\\]')
_HEAD_LIMIT_BYTES = 64 * 1024  # what may stand before the data: a size and an id


class AttachmentData:
    """Feed it blocks of the JSON answer, in order; it gives back the decoded bytes they complete."""

    def __init__(self) -> None:
        self._pending = b""  # undecided bytes: the head while we look for the data, then 0-3 characters
        self._inside = False
        self._ended = False

    def feed(self, block: bytes) -> bytes:
        """The decoded bytes that this block completes, possibly none. Raises GmailUnavailableError."""
        if self._ended:
            return b""
        self._pending += block
        if not self._inside:
            start = _START.search(self._pending)
            if start is None:
                if len(self._pending) > _HEAD_LIMIT_BYTES:
                    raise GmailUnavailableError("an attachment answer holds no data")
                return b""
            self._pending = self._pending[start.end() :]
            self._inside = True
        end = _END.search(self._pending)
        if end is not None:
            self._ended = True
            return _decode(self._pending[: end.start()])
        whole = len(self._pending) - len(self._pending) % 4
        ready, self._pending = self._pending[:whole], self._pending[whole:]
        return _decode(ready)

    def close(self) -> None:
        """Say that no block is left. Raises GmailUnavailableError when the data broke off."""
        if not (self._ended or (not self._inside and self._pending.rstrip().endswith(b"}"))):
            raise GmailUnavailableError("an attachment's body broke off")


def _decode(text: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise GmailUnavailableError(f"an attachment's body arrived damaged: {error}") from error
