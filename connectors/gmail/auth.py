"""Google credentials: from what the registry keeps, and from a person's consent."""

import os
import sys
import webbrowser
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import urlsplit

from google.auth.credentials import Credentials
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from google_auth_oauthlib.flow import InstalledAppFlow, WSGITimeoutError
from oauthlib.oauth2 import OAuth2Error

from connectors.errors import AuthorizationError, ConfigurationError
from connectors.gmail.client import google_service
from connectors.gmail.mapped import mapped

# Reading is all that this product ever asks for.
SCOPES = ("https://www.googleapis.com/auth/gmail.readonly",)
# IMAP has no smaller one than the whole mailbox.
IMAP_SCOPES = ("https://mail.google.com/",)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def credentials_from(info: dict[str, Any], address: str, scopes: tuple[str, ...] = SCOPES) -> Credentials:
    """Credentials for one mailbox.

    ``info`` is Google's own JSON: ``authorized_user`` (client_id, client_secret, refresh_token, token_uri) or
    ``service_account`` (a key file's content), which then acts for ``address`` by domain-wide delegation.
    Raises ConfigurationError when it is neither.
    """
    kind = info.get("type", "authorized_user" if "refresh_token" in info else None)
    try:
        if kind == "service_account":
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call,no-any-return]
                info, scopes=scopes, subject=address
            )
        if kind == "authorized_user":
            return user_credentials.Credentials(  # type: ignore[no-untyped-call]
                None,
                refresh_token=info["refresh_token"],
                token_uri=info.get("token_uri", "https://oauth2.googleapis.com/token"),
                client_id=info["client_id"],
                client_secret=info["client_secret"],
                scopes=scopes,
            )
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"these credentials are incomplete: {error}") from error
    raise ConfigurationError("credentials must be an authorized user's or a service account's JSON")


def ask_consent(
    secrets: dict[str, Any],
    address: str,
    *,
    open_browser: bool,
    timeout_seconds: int,
    scopes: tuple[str, ...] = SCOPES,
) -> dict[str, Any]:
    """Have a person grant access to ``address`` in a browser; returns the credentials' JSON.

    ``secrets`` is Google's JSON of a desktop client ("installed"). The answer comes to a port of this machine
    that only it can reach, and is worth nothing without this process's PKCE verifier. Raises
    ConfigurationError for secrets of another kind, AuthorizationError without a usable consent.
    """
    if "installed" not in secrets:
        raise ConfigurationError(
            'the client secrets must be those of a desktop app (with "installed" in them)'
        )
    try:
        flow = InstalledAppFlow.from_client_config(secrets, scopes, autogenerate_code_verifier=True)
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"the client secrets are incomplete: {error}") from error
    if urlsplit(secrets["installed"]["token_uri"]).hostname in _LOOPBACK:
        # Nobody listens between us and this machine, so an emulator needs no certificate.
        os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    try:
        with redirect_stdout(sys.stderr):
            granted = flow.run_local_server(
                host="127.0.0.1",
                port=0,
                open_browser=open_browser,
                timeout_seconds=timeout_seconds,
                authorization_prompt_message="Open this address and agree: {url}",
                success_message="Done. You may close this window.",
                access_type="offline",
                prompt="consent",
                login_hint=address,
            )
    except WSGITimeoutError as error:
        raise AuthorizationError(f"nobody agreed within {timeout_seconds} s: try again") from error
    except webbrowser.Error as error:
        raise ConfigurationError("no browser can be opened: use --no-browser") from error
    except (OAuth2Error, ValueError, Warning) as error:
        raise AuthorizationError(f"access was not granted: {error}") from error
    if not granted.refresh_token:
        raise AuthorizationError("Google gave no refresh token: remove the app's access and try again")
    return {
        "type": "authorized_user",
        "client_id": granted.client_id,
        "client_secret": granted.client_secret,
        "refresh_token": granted.refresh_token,
        "token_uri": granted.token_uri,
    }


def granted_address(info: dict[str, Any], address: str, endpoint: str | None) -> str:
    """Whose mailbox these credentials open. Raises AuthorizationError, GmailUnavailableError."""
    credentials = credentials_from(info, address)
    users = google_service("gmail", "v1", endpoint, credentials=credentials).users()
    profile = mapped(lambda: users.getProfile(userId="me").execute())
    return str(profile["emailAddress"])
