"""Credentials at rest: AES-256-GCM, bound to their mailbox, under a key that never enters a topic."""

import base64
import binascii
import hashlib
import json
import os
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
    """Seals and opens credentials with one key."""

    def __init__(self, key: str) -> None:
        try:
            raw = base64.b64decode(key, validate=True)
        except binascii.Error as error:
            raise ConfigurationError("CREDENTIALS_KEY is not base64") from error
        if len(raw) != KEY_BYTES:
            raise ConfigurationError(f"CREDENTIALS_KEY must be {KEY_BYTES} bytes in base64, not {len(raw)}")
        self._cipher = AESGCM(raw)
        self._key_id = hashlib.sha256(raw).hexdigest()[:8]

    def seal(self, mailbox_id: str, credentials: dict[str, Any]) -> CredentialRecord:
        """Encrypt a mailbox's credentials."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(credentials).encode(), mailbox_id.encode())
        return CredentialRecord(
            key_id=self._key_id,
            nonce=base64.b64encode(nonce).decode(),
            ciphertext=base64.b64encode(sealed).decode(),
        )

    def open(self, mailbox_id: str, record: CredentialRecord) -> dict[str, Any]:
        """Decrypt a mailbox's credentials.

        Raises ConfigurationError when another key sealed them, or another mailbox's record stands here.
        """
        try:
            opened = self._cipher.decrypt(
                base64.b64decode(record.nonce), base64.b64decode(record.ciphertext), mailbox_id.encode()
            )
        except InvalidTag as error:
            raise ConfigurationError(
                f"credentials of mailbox {mailbox_id} do not open: CREDENTIALS_KEY is not the one"
                f" they were sealed with (key id {record.key_id}, given {self._key_id})"
            ) from error
        credentials: dict[str, Any] = json.loads(opened)
        return credentials
