"""Who may come in, and as whom."""

import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.errors import TokenForbiddenError, TokenRefusedError, UnavailableError
from schemas.callers import CallerRecord
from schemas.events import now_milliseconds
from search import authentication
from search.authentication import Authentication, Issuer, email_caller, new_token
from tests.serving import Handler, served

ISSUER, AUDIENCE = "https://login.example.com", "mailstream"


class Directory:
    def __init__(self, *records: CallerRecord) -> None:
        self.records = {record.caller_id: record for record in records}
        self.asked = 0

    async def get(self, caller_id: str) -> CallerRecord | None:
        self.asked += 1
        return self.records.get(caller_id)


async def test_a_token_is_bound_to_its_mailboxes() -> None:
    record, token = new_token("laptop", ["box-a"])
    caller = await Authentication(Directory(record)).caller(f"Bearer {token}")
    assert caller.access.allows("box-a")
    assert not caller.access.allows("box-b")
    assert token.split("_", 2)[2] not in record.model_dump_json()


async def test_all_mailboxes_means_all() -> None:
    record, token = new_token("auditor", None)
    assert (await Authentication(Directory(record)).caller(f"Bearer {token}")).access.allows("anything")


@pytest.mark.parametrize(
    "spoil", ["", "x", "_", "mst__", "mst_nobody_secret", "\x00", "mst_../../x_y", "ä" * 300]
)
async def test_what_is_no_token_is_refused(spoil: str) -> None:
    record, token = new_token("laptop", ["box-a"])
    entry = Authentication(Directory(record))
    for header in (spoil, f"Bearer {spoil}", f"Bearer {token}{spoil or 'x'}", f"Basic {token}", token, None):
        with pytest.raises(TokenRefusedError):
            await entry.caller(header)


async def test_somebody_elses_secret_is_refused() -> None:
    anna, anna_token = new_token("anna", ["box-a"])
    bob, bob_token = new_token("bob", ["box-b"])
    mixed = "_".join([*anna_token.split("_", 2)[:2], bob_token.split("_", 2)[2]])
    with pytest.raises(TokenRefusedError):
        await Authentication(Directory(anna, bob)).caller(f"Bearer {mixed}")


async def test_a_revoked_or_expired_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "REMEMBERED_SECONDS", 0.0)
    record, token = new_token("laptop", ["box-a"], expires_at=now_milliseconds() + 60_000)
    directory = Directory(record)
    entry = Authentication(directory)
    await entry.caller(f"Bearer {token}")
    for field in ("revoked_at", "expires_at"):
        directory.records[record.caller_id] = record.model_copy(update={field: now_milliseconds() - 1})
        with pytest.raises(TokenRefusedError):
            await entry.caller(f"Bearer {token}")


async def test_a_dozen_requests_ask_once() -> None:
    record, token = new_token("page", ["box-a"])
    directory = Directory(record)
    entry = Authentication(directory)
    for _ in range(12):
        await entry.caller(f"Bearer {token}")
    assert directory.asked == 1


# --- an OpenID Connect issuer ----------------------------------------------------------------------------


class Keys:
    """An issuer: its key, and where the public half of it is served."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key()))
        self.published = {"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}
        self.url = ""

    def sign(self, **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "sub": "1"} | {
            "email": "anna@example.com",
            "email_verified": True,
            **claims,
        }
        return jwt.encode(whole, self.private, "RS256", headers={"kid": "k1"})


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    made = Keys()

    class Server(Handler):
        def get(self) -> None:
            self.answer(made.published)

    with served(Server) as made.url:
        yield made


def _entry(keys: Keys, *records: CallerRecord) -> Authentication:
    return Authentication(Directory(*records), Issuer(ISSUER, AUDIENCE, keys.url))


async def test_an_address_that_the_issuer_vouches_for_is_somebody(keys: Keys) -> None:
    entry = _entry(keys, email_caller("Anna", "Anna@Example.com", ["box-a"]))
    caller = await entry.caller(f"Bearer {keys.sign()}")
    assert caller.access.mailbox_ids == frozenset({"box-a"})


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://evil.example.com"}, {"aud": "other"}, {"exp": int(time.time()) - 3600}],
    ids=["issuer", "audience", "expired"],
)
async def test_another_issuers_tokens_are_refused(keys: Keys, claims: dict[str, Any]) -> None:
    entry = _entry(keys, email_caller("Anna", "anna@example.com", ["box-a"]))
    with pytest.raises(TokenRefusedError):
        await entry.caller(f"Bearer {keys.sign(**claims)}")


async def test_forged_signatures_are_refused(keys: Keys) -> None:
    entry = _entry(keys, email_caller("Anna", "anna@example.com", ["box-a"]))
    head, body, signature = keys.sign().split(".")
    other = Keys()
    none = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "exp": 9e9}, "", "none", headers={"kid": "k1"})
    hmac_signed = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "exp": 9e9}, "k" * 32, "HS256", headers={"kid": "k1"}
    )
    for forged in (
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        other.sign(),
        none,
        hmac_signed,
        f"{head}.{body}.",
    ):
        with pytest.raises(TokenRefusedError):
            await entry.caller(f"Bearer {forged}")


@pytest.mark.parametrize(
    "claims",
    [{"email_verified": False}, {"email_verified": "true"}, {"email": "bob@example.com"}, {"email": 7}],
)
async def test_whom_nobody_has_let_in_is_forbidden(keys: Keys, claims: dict[str, Any]) -> None:
    entry = _entry(keys, email_caller("Anna", "anna@example.com", ["box-a"]))
    with pytest.raises(TokenForbiddenError):
        await entry.caller(f"Bearer {keys.sign(**claims)}")


async def test_whom_somebody_has_shut_out_again_is_forbidden(keys: Keys) -> None:
    record = email_caller("Anna", "anna@example.com", ["box-a"])
    for field in ("revoked_at", "expires_at"):
        entry = _entry(keys, record.model_copy(update={field: now_milliseconds() - 1}))
        with pytest.raises(TokenForbiddenError):
            await entry.caller(f"Bearer {keys.sign()}")


async def test_an_issuer_that_is_away_is_passing_trouble(keys: Keys) -> None:
    entry = Authentication(Directory(), Issuer(ISSUER, AUDIENCE, "http://127.0.0.1:9/keys"))
    with pytest.raises(UnavailableError):
        await entry.caller(f"Bearer {keys.sign()}")
