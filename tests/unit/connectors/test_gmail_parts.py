"""Small pieces of the Gmail connector: bodies in blocks, JSON to parts, the limiter, the vault."""

import base64

import pytest
from google.auth.exceptions import RefreshError
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import AuthorizationError, ConfigurationError, GmailUnavailableError
from connectors.gmail.base64_stream import AttachmentData
from connectors.gmail.mapped import mapped
from connectors.gmail.message import decode_base64url, from_json
from connectors.vault import Vault, new_key
from schemas import mime


@given(st.binary(max_size=3000), st.integers(1, 97), st.booleans(), st.sampled_from(["=", "\\u003d"]))
def test_a_body_comes_out_whole_however_it_is_cut(
    payload: bytes, block_bytes: int, padded: bool, padding: str
) -> None:
    text = base64.urlsafe_b64encode(payload).decode()
    text = text.replace("=", padding) if padded else text.rstrip("=")
    answer = f'{{"size": {len(payload)}, "data": "{text}"}}'.encode()
    data = AttachmentData()
    got = b"".join(data.feed(answer[i : i + block_bytes]) for i in range(0, len(answer), block_bytes))
    data.close()
    assert got == payload


@pytest.mark.parametrize("answer", [b'{"size": 9, "data": "QUJD', b'{"size": 9, "da', b""])
def test_a_body_that_broke_off_is_an_error(answer: bytes) -> None:
    data = AttachmentData()
    with pytest.raises(GmailUnavailableError):
        data.feed(answer)
        data.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable"
            " timeframe. Check your iat and exp values in the JWT claim.",
            GmailUnavailableError,
        ),
        ("invalid_grant: Token has been expired or revoked.", AuthorizationError),
        ("invalid_grant: Invalid JWT Signature.", AuthorizationError),
    ],
)
def test_a_clock_that_is_wrong_is_no_refusal(said: str, expected: type[Exception]) -> None:
    """A service account's tokens are asked for by the machine's clock: it parks no mailbox."""

    def refused() -> None:
        raise RefreshError(said)  # type: ignore[no-untyped-call]

    with pytest.raises(expected):
        mapped(refused)


def test_an_answer_without_data_is_an_empty_body() -> None:
    data = AttachmentData()
    assert data.feed(b'{"size": 0}') == b""
    data.close()


@pytest.mark.parametrize("text", ["QQ", "QQ==", "QUI", "_-8"])
def test_base64url_is_read_with_and_without_padding(text: str) -> None:
    assert decode_base64url(text)


def test_a_nested_mail_is_one_leaf_and_html_alone_is_the_body() -> None:
    message = from_json(
        {
            "id": "1",
            "historyId": "77",
            "labelIds": ["INBOX"],
            "payload": {
                "mimeType": "multipart/mixed",
                "headers": [{"name": "Subject", "value": "s"}],
                "parts": [
                    {"mimeType": "text/html", "body": {"data": "PGI-aGk8L2I-", "size": 9}},
                    {
                        "mimeType": "message/rfc822",
                        "filename": "",
                        "body": {"attachmentId": "A", "size": 5},
                        "parts": [{"mimeType": "application/pdf", "filename": "inner.pdf", "body": {}}],
                    },
                ],
            },
        }
    )
    assert message.history_id == 77
    assert [(leaf.path, leaf.part.reference) for leaf in mime.attachments(message.root)] == [("2", "A")]
    assert [leaf.part.body for leaf in mime.body_leaves(message.root)] == [b"<b>hi</b>"]


def test_credentials_open_for_their_own_mailbox_only() -> None:
    vault = Vault([new_key()])
    sealed = vault.seal("box", {"refresh_token": "secret"})
    assert b"secret" not in sealed.encode()
    assert vault.open("box", sealed) == {"refresh_token": "secret"}
    with pytest.raises(ConfigurationError):
        vault.open("another", sealed)
    with pytest.raises(ConfigurationError):
        Vault([new_key()]).open("box", sealed)


@pytest.mark.parametrize("key", ["", "not base64!", "QUJD"])
def test_a_key_that_is_none_is_refused_with_its_name(key: str) -> None:
    with pytest.raises(ConfigurationError, match="CREDENTIALS_KEY"):
        Vault([key])
