"""Pub/Sub by pull: the way in for pushes where nothing of ours can be reached from outside."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from google.oauth2 import service_account
from google_auth_httplib2 import AuthorizedHttp

from connectors.errors import ConfigurationError
from connectors.gmail.client import google_http, google_service
from connectors.gmail.mapped import mapped

SCOPES = ("https://www.googleapis.com/auth/pubsub",)
MAX_MESSAGES = 100


class Subscription:
    """A pull subscription. ``endpoint`` None is Google's own."""

    def __init__(self, name: str, credentials_file: Path, endpoint: str | None) -> None:
        try:
            credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                str(credentials_file), scopes=SCOPES
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"GOOGLE_CREDENTIALS_FILE cannot be used: {error}") from error
        http = AuthorizedHttp(credentials, http=google_http())
        self._name = name
        self._requests = google_service("pubsub", "v1", endpoint, http=http).projects().subscriptions()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="pubsub")  # httplib2 is for one thread

    async def pull(self) -> list[dict[str, Any]]:
        """Messages that wait, ``{"ackId", "message"}`` each. Raises GmailError and what is below it."""
        answer = await self._run(
            lambda: self._requests.pull(subscription=self._name, body={"maxMessages": MAX_MESSAGES}).execute()
        )
        received: list[dict[str, Any]] = answer.get("receivedMessages", [])
        return received

    async def acknowledge(self, ack_ids: list[str]) -> None:
        """Have messages not delivered again. Raises GmailError and what is below it."""
        body = {"ackIds": ack_ids}
        await self._run(lambda: self._requests.acknowledge(subscription=self._name, body=body).execute())

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, mapped, work)
