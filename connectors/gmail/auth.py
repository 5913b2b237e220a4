"""Google credentials from what the registry keeps: a user's refresh token or a service account."""

from typing import Any

from google.auth.credentials import Credentials
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from connectors.errors import ConfigurationError

# Reading is all that this product ever asks for.
SCOPES = ("https://www.googleapis.com/auth/gmail.readonly",)


def credentials_from(info: dict[str, Any], address: str) -> Credentials:
    """Credentials for one mailbox.

    ``info`` is Google's own JSON: ``authorized_user`` (client_id, client_secret, refresh_token, token_uri) or
    ``service_account`` (a key file's content), which then acts for ``address`` by domain-wide delegation.
    Raises ConfigurationError when it is neither.
    """
    kind = info.get("type", "authorized_user" if "refresh_token" in info else None)
    try:
        if kind == "service_account":
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call,no-any-return]
                info, scopes=SCOPES, subject=address
            )
        if kind == "authorized_user":
            return user_credentials.Credentials(  # type: ignore[no-untyped-call]
                None,
                refresh_token=info["refresh_token"],
                token_uri=info.get("token_uri", "https://oauth2.googleapis.com/token"),
                client_id=info["client_id"],
                client_secret=info["client_secret"],
                scopes=SCOPES,
            )
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"these credentials are incomplete: {error}") from error
    raise ConfigurationError("credentials must be an authorized user's or a service account's JSON")
