"""Credentials at rest: AES-256-GCM, bound to their mailbox, under keys that never enter a topic."""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.errors import ConfigurationError
from schemas.events import CredentialRecord

KEY_BYTES = 32
NONCE_BYTES = 12


def new_key() -> str:
    """A random key, in the form that the setting CREDENTIALS_KEY takes (base64)."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class Vault:
    """Seals credentials with the first of its keys, and opens what any of them has sealed."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigurationError(
                "CREDENTIALS_KEY is not set: make one with `mailstream keys new` and keep it safe"
            )
        raw = [_decoded(key) for key in keys]
        self._ciphers = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in reversed(raw)}
        self.key_id = hashlib.sha256(raw[0]).hexdigest()[:8]

    def seal(self, mailbox_id: str, credentials: dict[str, Any]) -> CredentialRecord:
        """Encrypt a mailbox's credentials."""
        nonce = os.urandom(NONCE_BYTES)
        cipher = self._ciphers[self.key_id]
        sealed = cipher.encrypt(nonce, json.dumps(credentials).encode(), mailbox_id.encode())
        return CredentialRecord(
            key_id=self.key_id,
            nonce=base64.b64encode(nonce).decode(),
            ciphertext=base64.b64encode(sealed).decode(),
        )

    def open(self, mailbox_id: str, record: CredentialRecord) -> dict[str, Any]:
        """Decrypt a mailbox's credentials.

        Raises ConfigurationError when no key of ours sealed them, or another mailbox's record stands here.
        """
        cipher = self._ciphers.get(record.key_id)
        try:
            if cipher is None:
                raise InvalidTag
            opened = cipher.decrypt(
                base64.b64decode(record.nonce), base64.b64decode(record.ciphertext), mailbox_id.encode()
            )
        except InvalidTag as error:
            raise ConfigurationError(
                f"credentials of mailbox {mailbox_id} do not open: CREDENTIALS_KEY is not the one they were"
                f" sealed with (key id {record.key_id}, given {', '.join(self._ciphers)})"
            ) from error
        credentials: dict[str, Any] = json.loads(opened)
        return credentials

    def read(self, mailbox_id: str, value: bytes | None) -> dict[str, Any]:
        """The credentials in the registry's record of them, if any. Raises ConfigurationError as ``open``
        does, and where there is none."""
        if value is None:
            raise ConfigurationError(
                f"mailbox {mailbox_id} has no credentials: add it again with `mailstream mailbox add`"
            )
        return self.open(mailbox_id, CredentialRecord.decode(value))


def _decoded(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ConfigurationError("CREDENTIALS_KEY is not base64") from error
    if len(raw) != KEY_BYTES:
        raise ConfigurationError(f"CREDENTIALS_KEY must be {KEY_BYTES} bytes in base64, not {len(raw)}")
    return raw
