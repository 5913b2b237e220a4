"""The Gmail API over google-api-python-client, for one mailbox: paced, off the event loop, errors mapped.

httplib2 is not safe to share between threads, so every worker thread has a connection of its own.
"""

import asyncio
import http.client
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import httplib2
from google.api_core.client_options import ClientOptions
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build

from connectors.errors import (
    GmailError,
    GmailUnavailableError,
    HistoryExpiredError,
    MailstreamError,
    NotFoundError,
    PageTokenExpiredError,
    RateLimitedError,
)
from connectors.gmail.base64_stream import AttachmentData
from connectors.gmail.mapped import Result, mapped, status_error
from connectors.gmail.message import MailMessage, decode_base64url, from_json
from connectors.gmail.quota import GmailRateLimiter
from connectors.mail_source import HistoryEntry, HistoryPage, ListingPage, Position
from connectors.metrics import (
    gmail_quota_refused_counter,
    gmail_quota_units_counter,
    gmail_requests_counter,
)
from schemas.events import ChangeKind

LIST_PAGE_SIZE = 500  # Gmail's maximum, and the same price as any other
HISTORY_PAGE_SIZE = 500
TIMEOUT_SECONDS = 60
STREAM_BLOCK_BYTES = 256 * 1024
# A raw fetch brings small attachments along; what it brings must not be larger than is held in memory.
RAW_QUERY = "has:attachment smaller:10M"

_HISTORY_KINDS = (
    ("messagesAdded", ChangeKind.UPSERT),
    ("labelsAdded", ChangeKind.LABEL_ADDED),
    ("labelsRemoved", ChangeKind.LABEL_REMOVED),
    ("messagesDeleted", ChangeKind.DELETE),
)


def google_service(name: str, version: str, endpoint: str | None, **access: Any) -> Any:
    """Google's own client of one of its APIs, without pacing; ``endpoint`` None is Google's own, ``access``
    the ``credentials``, or an ``http`` that has them."""
    return build(
        name,
        version,
        client_options=ClientOptions(api_endpoint=endpoint) if endpoint else None,
        static_discovery=True,  # the description of the API ships with the library: nothing is fetched
        cache_discovery=False,
        **access,
    )


@cache
def _service(endpoint: str | None) -> Any:
    return google_service("gmail", "v1", endpoint, http=httplib2.Http())


class GmailClient:
    """One mailbox of Gmail. The limiter bounds its requests in flight, ``executor`` those of all that share
    it; ``endpoint`` None is Google's own.

    What is asked with ``background`` waits for everything that is not.
    """

    def __init__(
        self,
        credentials: Credentials,
        costs: dict[str, int],
        limiter: GmailRateLimiter,
        executor: ThreadPoolExecutor,
        endpoint: str | None = None,
    ) -> None:
        self._credentials = credentials
        self._costs = costs
        self._limiter = limiter
        self._executor = executor
        self._endpoint = endpoint
        # Connections that nobody uses at the moment; each serves one request at a time, in any thread.
        self._idle: deque[AuthorizedHttp] = deque()
        self._closed = False
        self._received_bytes = 0
        self._requests = 0

    @property
    def paused_seconds(self) -> float:
        """How long Google wants no request for this mailbox; 0 when there may be some."""
        return self._limiter.paused_seconds

    @property
    def quota_units(self) -> int | None:
        """Units that may be spent at once; None where nobody counts."""
        return self._limiter.remaining_units

    @property
    def spent(self) -> tuple[int, int]:
        """Bytes received, as they are after decompression, and requests sent since the start."""
        return self._received_bytes, self._requests

    # --- what the source asks ------------------------------------------------------------------------

    @property
    def raw_query(self) -> str:
        """The messages whose attachments a raw fetch brings along without further requests."""
        return RAW_QUERY

    def resume(self, state: str | None) -> None:
        """Nothing to do: Gmail keeps the history itself."""

    async def news(self) -> None:
        """Never returns: Gmail tells by pushes, which come as requests."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Hang up; requests in flight end by themselves."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def position(self) -> Position:
        """The mailbox's newest historyId and its number of messages."""
        profile = await self._call("getProfile", lambda users: users.getProfile(userId="me"))
        return Position(int(profile["historyId"]), int(profile.get("messagesTotal", 0)))

    async def list_page(
        self,
        page_token: str | None,
        *,
        query: str | None = None,
        label_id: str | None = None,
        include_spam_trash: bool = True,
    ) -> ListingPage:
        """One page of message ids, newest first. Raises PageTokenExpiredError."""
        with _stale_tokens(page_token):
            page = await self._call(
                "messages.list",
                lambda users: users.messages().list(
                    userId="me",
                    maxResults=LIST_PAGE_SIZE,
                    pageToken=page_token,
                    q=query,
                    labelIds=[label_id] if label_id else None,
                    includeSpamTrash=include_spam_trash,
                ),
                background=True,
            )
        ids = tuple((entry["id"], entry.get("threadId")) for entry in page.get("messages", ()))
        return ListingPage(ids, page.get("nextPageToken"))

    async def history_page(self, start_history_id: int, page_token: str | None) -> HistoryPage:
        """One page of what happened after ``start_history_id``.

        Raises HistoryExpiredError, PageTokenExpiredError. A page may have no entries and still a token: only
        the token says whether it was the last.
        """
        try:
            with _stale_tokens(page_token):
                page = await self._call(
                    "history.list",
                    lambda users: users.history().list(
                        userId="me",
                        startHistoryId=str(start_history_id),
                        maxResults=HISTORY_PAGE_SIZE,
                        pageToken=page_token,
                    ),
                )
        except NotFoundError as error:
            raise HistoryExpiredError(f"history before {start_history_id} is gone") from error
        entries = [
            HistoryEntry(
                kind=kind,
                message_id=entry["message"]["id"],
                thread_id=entry["message"].get("threadId"),
                history_id=int(record["id"]),
                changed=tuple(entry.get("labelIds", ())),
                labels=tuple(entry["message"]["labelIds"]) if "labelIds" in entry["message"] else None,
            )
            for record in page.get("history", ())
            for field, kind in _HISTORY_KINDS
            for entry in record.get(field, ())
        ]
        return HistoryPage(entries, int(page["historyId"]), page.get("nextPageToken"))

    async def labels(self) -> dict[str, str]:
        """The labels' names by id, the system's and the user's."""
        page = await self._call("labels.list", lambda users: users.labels().list(userId="me"))
        return {label["id"]: label.get("name", label["id"]) for label in page.get("labels", ())}

    async def watch(self, topic: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> int:
        """Announce changes to a Pub/Sub topic; returns the end, in milliseconds. Gmail takes one filter."""
        body: dict[str, Any] = {"topicName": topic}
        if include or exclude:
            behavior = "include" if include else "exclude"
            body |= {"labelIds": list(include or exclude), "labelFilterBehavior": behavior}
        answer = await self._call("watch", lambda users: users.watch(userId="me", body=body))
        return int(answer["expiration"])

    # --- what extract asks ---------------------------------------------------------------------------

    async def message(self, message_id: str, *, raw: bool = False, background: bool = False) -> MailMessage:
        """The message with its MIME tree. Raises NotFoundError.

        ``raw`` brings every body along; else large ones come as references, each a request of its own.
        """
        form = "raw" if raw else "full"
        resource = await self._call(
            "messages.get",
            lambda users: users.messages().get(userId="me", id=message_id, format=form),
            background=background,
        )
        try:
            return from_json(resource)
        except ValueError as error:
            raise GmailUnavailableError(f"a message arrived damaged: {error}") from error

    async def attachment(self, message_id: str, reference: str, *, background: bool = False) -> bytes:
        """A body behind a reference of the latest ``message`` call. Raises NotFoundError when it is stale."""
        try:
            resource = await self._call(
                "attachments.get",
                lambda users: (
                    users.messages().attachments().get(userId="me", messageId=message_id, id=reference)
                ),
                background=background,
            )
        except GmailError as error:
            raise _stale_reference(error) from error
        try:
            return decode_base64url(resource.get("data", ""))
        except ValueError as error:
            raise GmailUnavailableError(f"attachment body arrived damaged: {error}") from error

    async def attachment_stream(
        self, message_id: str, reference: str, *, background: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The same in decoded blocks, never whole in memory, for bodies that are large."""
        root = self._endpoint or "https://gmail.googleapis.com"
        url = f"{root}/gmail/v1/users/me/messages/{message_id}/attachments/{reference}"
        received_bytes = 0
        with await self._limiter.acquire(self._costs["attachments.get"], background=background):
            self._count("attachments.get")
            session = AuthorizedSession(self._credentials)  # type: ignore[no-untyped-call]
            try:
                response = await self._run(lambda: session.get(url, stream=True, timeout=TIMEOUT_SECONDS))
                if response.status_code != http.client.OK:
                    error = status_error(response.status_code, response.content, response.headers)
                    if isinstance(error, RateLimitedError):
                        self._refused("attachments.get", error)
                    raise _stale_reference(error)
                blocks = response.iter_content(STREAM_BLOCK_BYTES)
                data = AttachmentData()
                while block := await self._run(lambda: next(blocks, b"")):
                    received_bytes += len(block)
                    self._received_bytes += len(block)
                    yield data.feed(block)
                data.close()
            finally:
                if received_bytes:
                    self._limiter.accepted(received_bytes)
                session.close()  # type: ignore[no-untyped-call]

    # --- one request ---------------------------------------------------------------------------------

    async def _call(
        self, method: str, request: Callable[[Any], Any], *, background: bool = False
    ) -> dict[str, Any]:
        def execute() -> tuple[dict[str, Any], int]:
            with self._connection() as connection:
                resource = request(_service(self._endpoint).users()).execute(http=connection)
                return resource, connection.http.received_bytes

        with await self._limiter.acquire(self._costs[method], background=background):
            self._count(method)
            try:
                resource, received_bytes = await self._run(execute)
            except RateLimitedError as error:
                self._refused(method, error)
                raise
            self._received_bytes += received_bytes
            self._limiter.accepted(received_bytes)
        return resource

    def _count(self, method: str) -> None:
        self._requests += 1
        gmail_requests_counter.labels(method=method).inc()
        gmail_quota_units_counter.labels(method=method).inc(self._costs[method])
        gmail_quota_refused_counter.labels(method=method)  # there from the first request on, as 0

    def _refused(self, method: str, error: RateLimitedError) -> None:
        self._limiter.refused(error)
        gmail_quota_refused_counter.labels(method=method).inc(self._costs[method])

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, mapped, work)

    @contextmanager
    def _connection(self) -> Iterator[AuthorizedHttp]:
        """The connection that was used last, so that no more stay open than are needed at once."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = AuthorizedHttp(self._credentials, http=google_http())
        try:
            yield connection
        finally:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)


class _MeasuredHttp(httplib2.Http):  # type: ignore[misc]
    """Knows how large the last answer was."""

    received_bytes = 0

    def request(self, *arguments: Any, **options: Any) -> Any:
        """As httplib2 does."""
        answer = super().request(*arguments, **options)
        self.received_bytes = len(answer[1])
        return answer


def google_http() -> _MeasuredHttp:
    """A connection, for one request at a time."""
    return _MeasuredHttp(timeout=TIMEOUT_SECONDS)


@contextmanager
def _stale_tokens(page_token: str | None) -> Iterator[None]:
    """Google has no reason of its own for a page token it does not know any more: its words must do."""
    try:
        yield
    except GmailError as error:
        if page_token and type(error) is GmailError and "token" in str(error).lower():
            raise PageTokenExpiredError(str(error)) from error
        raise


def _stale_reference(error: MailstreamError) -> MailstreamError:
    """Gmail says "Invalid attachment token" (400) of a reference that has expired."""
    stale = type(error) is GmailError and "attachment token" in str(error).lower()
    return NotFoundError(str(error)) if stale else error
