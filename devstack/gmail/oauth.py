"""Google's OAuth: consent, the token endpoint, service accounts, and the check of access tokens."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from devstack.gmail.errors import insufficient_scope, unauthenticated
from devstack.gmail.signing import SigningKey, TokenError

CLIENT_ID = "100000000001-emulated.apps.googleusercontent.com"
CLIENT_SECRET = "GOCSPX-emulated-client-secret"  # noqa: S105 - it opens nothing but emulated mailboxes
SERVICE_ACCOUNT = "mailstream@emulated-project.iam.gserviceaccount.com"
TOKEN_SECONDS = 3599
CODE_SECONDS = 600
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_GMAIL = "https://www.googleapis.com/auth/gmail."
READ_SCOPES = frozenset({"https://mail.google.com/", f"{_GMAIL}modify", f"{_GMAIL}readonly"})
METADATA_SCOPES = READ_SCOPES | {f"{_GMAIL}metadata"}
_DIRECTORY = "https://www.googleapis.com/auth/admin.directory.user"
DIRECTORY_SCOPES = frozenset({_DIRECTORY, f"{_DIRECTORY}.readonly"})
_GROUP = "https://www.googleapis.com/auth/admin.directory.group"
MEMBER_SCOPES = frozenset({_GROUP, f"{_GROUP}.readonly", f"{_GROUP}.member", f"{_GROUP}.member.readonly"})
PUBSUB_SCOPES = frozenset(
    {"https://www.googleapis.com/auth/pubsub", "https://www.googleapis.com/auth/cloud-platform"}
)


class OAuthError(Exception):
    """A refusal of the token endpoint, in OAuth's own words."""

    def __init__(self, error: str, description: str, code: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.body = {"error": error, "error_description": description}


@dataclass(frozen=True, slots=True)
class Grant:
    """Who may do what until when. ``address`` is a mailbox, or a service account that acts for nobody."""

    address: str
    scopes: frozenset[str]
    expires_at: float
    code_challenge: str | None = None
    redirect_uri: str = ""

    def require(self, scopes: frozenset[str]) -> None:
        """Raise ApiError 403 unless one of ``scopes`` was granted. No scopes at all mean every one."""
        if self.scopes and not self.scopes & scopes:
            raise insufficient_scope()


class OAuth:
    """The authorization server. ``is_mailbox`` tells which addresses exist."""

    def __init__(self, clock: Callable[[], float], is_mailbox: Callable[[str], bool]) -> None:
        self._clock = clock
        self._is_mailbox = is_mailbox
        self._codes: dict[str, Grant] = {}
        self._access: dict[str, Grant] = {}
        self._refresh: dict[str, tuple[str, frozenset[str]]] = {}
        self._revoked: set[str] = set()

    @cached_property
    def signing_key(self) -> SigningKey:
        """Signs the OIDC tokens of pushes."""
        return SigningKey()

    @cached_property
    def _service_key(self) -> SigningKey:
        return SigningKey()

    # --- what tests and people are given -------------------------------------------------------------

    def refresh_token(self, address: str) -> str:
        """The refresh token of a mailbox, the same in every run."""
        digest = hashlib.sha256(f"refresh/{address}".encode()).digest()
        token = "1//0" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        self._refresh[token] = (address, frozenset())
        return token

    def revoke(self, address: str) -> None:
        """End every token of a mailbox, as a password change does."""
        self._revoked |= {token for token, (owner, _) in self._refresh.items() if owner == address}
        self._access = {token: grant for token, grant in self._access.items() if grant.address != address}

    def service_account_info(self, url: str) -> dict[str, str]:
        """A service account's key file, with delegation for every mailbox."""
        return {
            "type": "service_account",
            "project_id": "emulated-project",
            "private_key_id": self._service_key.key_id,
            "private_key": self._service_key.private_pem(),
            "client_email": SERVICE_ACCOUNT,
            "client_id": "100000000000000000001",
            "auth_uri": f"{url}/o/oauth2/auth",
            "token_uri": f"{url}/token",
        }

    # --- the endpoints -------------------------------------------------------------------------------

    def consent(self, query: Mapping[str, str], default_address: str) -> str:
        """Approve a consent request at once; returns where to send the browser. Raises OAuthError."""
        redirect_uri = query.get("redirect_uri", "")
        if not redirect_uri:
            raise OAuthError("invalid_request", "Missing required parameter: redirect_uri")
        if query.get("client_id") != CLIENT_ID:
            raise OAuthError("invalid_client", "The OAuth client was not found.", 401)
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "Only response_type=code is supported.")
        challenge = query.get("code_challenge")
        if challenge and query.get("code_challenge_method") != "S256":
            raise OAuthError("invalid_request", "Only code_challenge_method=S256 is supported.")
        address = query.get("login_hint") or default_address
        state = {"state": query["state"]} if "state" in query else {}
        separator = "&" if "?" in redirect_uri else "?"
        if not self._is_mailbox(address):
            return redirect_uri + separator + urlencode({**state, "error": "access_denied"})
        code = "4/0" + secrets.token_urlsafe(48)
        scope = query.get("scope", "")
        self._codes[code] = Grant(
            address, frozenset(scope.split()), self._clock() + CODE_SECONDS, challenge, redirect_uri
        )
        return redirect_uri + separator + urlencode({**state, "code": code, "scope": scope})

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """The token endpoint. Raises OAuthError."""
        grant_type = form.get("grant_type")
        if grant_type == JWT_BEARER:
            return self._from_assertion(form.get("assertion", ""))
        if form.get("client_id") != CLIENT_ID or form.get("client_secret") != CLIENT_SECRET:
            raise OAuthError("invalid_client", "The OAuth client was not found.", 401)
        if grant_type == "refresh_token":
            return self._from_refresh_token(form)
        if grant_type == "authorization_code":
            return self._from_code(form)
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {grant_type}")

    def authenticate(self, header: str | None) -> Grant:
        """The grant behind an Authorization header. Raises ApiError 401."""
        kind, _, token = (header or "").partition(" ")
        grant = self._access.get(token)
        if kind.lower() != "bearer" or grant is None or grant.expires_at <= self._clock():
            raise unauthenticated()
        return grant

    # --- inside --------------------------------------------------------------------------------------

    def _from_refresh_token(self, form: Mapping[str, str]) -> dict[str, Any]:
        token = form.get("refresh_token", "")
        if token not in self._refresh or token in self._revoked:
            raise OAuthError("invalid_grant", "Token has been expired or revoked.")
        address, granted = self._refresh[token]
        asked = frozenset(form.get("scope", "").split())
        if granted and not asked <= granted:
            raise OAuthError("invalid_scope", "Bad Request")
        return self._issue(address, asked or granted)

    def _from_code(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = self._codes.pop(form.get("code", ""), None)  # a code works once
        if grant is None or grant.expires_at <= self._clock():
            raise OAuthError("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri", "") != grant.redirect_uri:
            raise OAuthError("redirect_uri_mismatch", "Bad Request")
        if grant.code_challenge is not None:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if not hmac.compare_digest(expected, grant.code_challenge.rstrip("=")):
                raise OAuthError("invalid_grant", "Invalid code verifier.")
        token = "1//0" + secrets.token_urlsafe(32)
        self._refresh[token] = (grant.address, grant.scopes)
        return {**self._issue(grant.address, grant.scopes), "refresh_token": token}

    def _from_assertion(self, assertion: str) -> dict[str, Any]:
        try:
            claims = self._service_key.verify(assertion)
        except TokenError as error:
            raise OAuthError("invalid_grant", "Invalid JWT Signature.") from error
        now = self._clock()
        if claims.get("iss") != SERVICE_ACCOUNT:
            raise OAuthError("invalid_grant", "Invalid grant: account not found")
        if not claims.get("iat", 0) - 300 <= now <= claims.get("exp", 0):
            raise OAuthError("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes).")
        if not str(claims.get("aud", "")).endswith("/token"):
            raise OAuthError("invalid_grant", "Invalid JWT: Failed audience check.")
        subject = claims.get("sub", SERVICE_ACCOUNT)
        if subject != SERVICE_ACCOUNT and not self._is_mailbox(subject):
            raise OAuthError("invalid_grant", "Invalid email or User ID")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes:
            raise OAuthError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._issue(subject, scopes)

    def _issue(self, address: str, scopes: frozenset[str]) -> dict[str, Any]:
        token = "ya29." + secrets.token_urlsafe(96)
        self._access[token] = Grant(address, scopes, self._clock() + TOKEN_SECONDS)
        return {
            "access_token": token,
            "expires_in": TOKEN_SECONDS,
            "scope": " ".join(sorted(scopes)),
            "token_type": "Bearer",
        }
