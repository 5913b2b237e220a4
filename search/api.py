"""The search API and the page over it. Every answer is for one caller, filtered by what he may read.

Nothing here knows where callers, labels and status come from: ``Services`` brings them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from connectors.elasticsearch import Index
from connectors.errors import (
    ConfigurationError,
    MailstreamError,
    TokenForbiddenError,
    TokenRefusedError,
    UnavailableError,
)
from connectors.metrics import search_requests_counter, search_seconds_histogram, search_timeouts_counter
from search.access import Access
from search.answers import (
    AttachmentAnswer,
    ErrorAnswer,
    FacetsAnswer,
    MessageAnswer,
    Problem,
    SearchAnswer,
    StatusAnswer,
    SuggestionsAnswer,
    ThreadAnswer,
    attachment_answer,
    message_answer,
    search_answer,
    thread_answer,
)
from search.authentication import Authentication, Caller
from search.conditions import Context
from search.cursors import CursorError
from search.facets import facets as facets_of
from search.query import MAX_CHARACTERS, QueryError, parse
from search.reading import Reading
from search.registry import Registry
from search.results import Mode
from search.retrieval import Retrieval
from search.suggestions import suggest

log = logging.getLogger("search.audit")
_Answer = TypeVar("_Answer")

PAGE = Path(__file__).parent / "page"
COOKIE = "mailstream_token"
COOKIE_SECONDS = 30 * 24 * 3600
# Nothing that is sent here is long: a token.
MAX_BODY_BYTES = 16 * 1024
# What a page may do: talk to its own host. Text from mail is shown as text; this holds if that fails.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Services:
    """What the API stands on, and its bounds."""

    index: Index
    retrieval: Retrieval
    authentication: Authentication
    registry: Registry
    status: Callable[[Access], Awaitable[StatusAnswer]]
    requests_per_minute: int = 300
    timeout_seconds: float = 10.0
    audit_queries: bool = False


class SignIn(BaseModel):
    """A token, to be kept in a cookie that no script can read."""

    token: str = Field(min_length=1, max_length=4096)


class Health(BaseModel):
    """Whether the process lives, or can answer."""

    status: str


_Id = Annotated[str, InPath(min_length=1, max_length=200)]
_Text = Annotated[
    str,
    Query(
        max_length=MAX_CHARACTERS,
        description="Words and operators, as in Gmail; without any, the newest mail",
        examples=["from:anna contract"],
    ),
]
_Zone = Annotated[
    str, Query(max_length=64, description="Time zone in which days begin", examples=["Europe/Berlin"])
]
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 405, 413, 422, 429, 503, 504)
}


def create_api(services: Services) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="Mailstream",
        version="1",
        summary="Search in mail and attachments",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(_api(services), prefix="/api/v1")
    _add_health(app, services)
    _add_page(app)
    _add_errors(app)
    app.middleware("http")(_guard)
    return app


def _only_known_parameters(request: Request) -> None:
    """Who misspells a condition must not think that it holds."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            message = f"no such parameter; there is {', '.join(known) or 'none'}"
            raise RequestValidationError([{"loc": ("query", name), "msg": message}])


class _Asking:
    """What every question goes through: who asks, how often, for how long, and what is said of it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._allowance = RateLimitItemPerMinute(services.requests_per_minute)

    async def caller(self, request: Request) -> Caller:
        """Who asks, by his token or his cookie, and not too often."""
        header = request.headers.get("Authorization")
        cookie = request.cookies.get(COOKIE)
        authentication = self.services.authentication
        known = await authentication.caller(header or (f"Bearer {cookie}" if cookie else None))
        if not await self._limiter.hit(self._allowance, known.caller_id):
            raise HTTPException(429, f"more than {self.services.requests_per_minute} requests in a minute")
        return known

    async def context(self, access: Access, zone: str) -> Context:
        """What a query's words mean to this caller: his day, his labels."""
        try:
            now = datetime.now(ZoneInfo(zone) if zone else UTC)
        except (KeyError, ValueError, OSError) as error:
            raise HTTPException(400, f"there is no time zone {zone}") from error
        return Context(now, await self.services.registry.labels(access))

    async def within(self, work: Awaitable[_Answer]) -> _Answer:
        """The answer, or 504 where it takes too long."""
        try:
            async with asyncio.timeout(self.services.timeout_seconds):
                return await work
        except TimeoutError as error:
            search_timeouts_counter.inc()
            raise HTTPException(504, "the search took too long: ask for less") from error

    def audit(self, known: Caller, action: str, started: float, found: int, text: str = "") -> None:
        """One line and two metrics for each question."""
        seconds = time.monotonic() - started
        search_requests_counter.labels(action=action).inc()
        search_seconds_histogram.labels(action=action).observe(seconds)
        asked = f" query={text!r}" if self.services.audit_queries and text else ""
        log.info("caller=%s %s found=%d seconds=%.3f%s", known.caller_id, action, found, seconds, asked)


def _api(services: Services) -> APIRouter:
    router = APIRouter(responses=_ERRORS, dependencies=[Depends(_only_known_parameters)])
    ask = _Asking(services)
    _add_searching(router, ask)
    _add_reading(router, ask)
    _add_session(router, services.authentication)
    return router


def _add_searching(router: APIRouter, ask: _Asking) -> None:
    Known = Annotated[Caller, Depends(ask.caller)]  # noqa: N806 - a type

    @router.get("/search")
    async def search(
        known: Known,
        q: _Text,
        mode: Mode = Mode.HYBRID,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[
            str | None, Query(max_length=1_000, description="next_cursor of the page before")
        ] = None,
        zone: _Zone = "",
    ) -> SearchAnswer:
        """Messages for a query, with the places where they matched."""
        started = time.monotonic()
        where = await ask.context(known.access, zone)
        found = await ask.within(
            ask.services.retrieval.search(
                parse(q), known.access, mode=mode, limit=limit, cursor=cursor, context=where
            )
        )
        ask.audit(known, "search", started, len(found.hits), q)
        return search_answer(found, where.labels)

    @router.get("/facets")
    async def facets(known: Known, q: _Text, zone: _Zone = "") -> FacetsAnswer:
        """What the messages for a query have in common, each with the query that narrows down to it."""
        where = await ask.context(known.access, zone)
        return await ask.within(
            facets_of(ask.services.index, ask.services.retrieval, parse(q), known.access, where)
        )

    @router.get("/suggestions")
    async def suggestions(
        known: Known, q: Annotated[str, Query(max_length=200, description="How a word begins")]
    ) -> SuggestionsAnswer:
        """Senders and files that a query may go on with."""
        found = await ask.within(suggest(ask.services.index, q, known.access))
        return SuggestionsAnswer(suggestions=found)

    @router.get("/status")
    async def status(known: Known) -> StatusAnswer:
        """How far the caller's mailboxes have come."""
        return await ask.within(ask.services.status(known.access))


def _add_reading(router: APIRouter, ask: _Asking) -> None:
    Known = Annotated[Caller, Depends(ask.caller)]  # noqa: N806 - a type
    reading = Reading(ask.services.index)

    @router.get("/messages/{mailbox_id}/{message_id}")
    async def message(known: Known, mailbox_id: _Id, message_id: _Id) -> MessageAnswer:
        """A message with its text, its attachments and theirs."""
        started = time.monotonic()
        found = await ask.within(reading.message(known.access, mailbox_id, message_id))
        ask.audit(known, "message", started, len(found))
        if not found:
            raise HTTPException(404, "there is no such message")
        thread_id = found[0].fields.get("thread_id")
        thread = await ask.within(reading.thread(known.access, mailbox_id, thread_id)) if thread_id else []
        labels = await ask.services.registry.labels(known.access)
        address = await ask.services.registry.address(mailbox_id)
        return message_answer(found, labels, address, len(thread))

    @router.get("/documents/{document_id}")
    async def document(known: Known, document_id: _Id) -> AttachmentAnswer:
        """One document, a message's or an attachment's, with its whole text."""
        started = time.monotonic()
        found = await ask.within(reading.document(known.access, document_id))
        ask.audit(known, "document", started, int(found is not None))
        if found is None:
            raise HTTPException(404, "there is no such document")
        return attachment_answer(found)

    @router.get("/threads/{mailbox_id}/{thread_id}")
    async def thread(known: Known, mailbox_id: _Id, thread_id: _Id) -> ThreadAnswer:
        """The messages of a thread in one mailbox, the oldest first."""
        found = await ask.within(reading.thread(known.access, mailbox_id, thread_id))
        if not found:
            raise HTTPException(404, "there is no such thread")
        return thread_answer(found)


def _add_session(router: APIRouter, authentication: Authentication) -> None:
    @router.post("/session", status_code=204)
    async def sign_in(request: Request, response: Response, body: SignIn) -> None:
        """Keep a token in a cookie for the page."""
        await authentication.caller(f"Bearer {body.token}")
        response.set_cookie(
            COOKIE,
            body.token,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    @router.delete("/session", status_code=204)
    async def sign_out(response: Response) -> None:
        """Forget the cookie."""
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def _add_health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the process lives."""
        return Health(status="ok")

    @app.get("/readyz", responses={503: {"model": ErrorAnswer}})
    async def readyz() -> Health:
        """Whether it can answer: the index is there."""
        await services.index.count({"match_none": {}})
        return Health(status="ok")


def _add_page(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(MailstreamError)
    async def ours(_: Request, error: MailstreamError) -> JSONResponse:
        match error:
            case QueryError():
                return _problem(400, "query", str(error), position=error.position)
            case CursorError():
                return _problem(400, "cursor", str(error))
            case TokenRefusedError():
                return _problem(401, "signed_out", str(error), headers={"WWW-Authenticate": "Bearer"})
            case TokenForbiddenError():
                return _problem(403, "forbidden", str(error))
        if not isinstance(error, UnavailableError | ConfigurationError):
            log.error("%s: %s", type(error).__name__, error)
        # What is wrong with our servers is for our log, not for whoever asks.
        log.warning("cannot answer: %s", error)
        return _problem(503, "unavailable", "not now: try again in a moment", headers={"Retry-After": "5"})

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][1:]))
        return _problem(422, "parameters", f"{name}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        codes = {400: "parameters", 404: "not_found", 429: "busy", 504: "busy"}
        headers = {"Retry-After": "10"} if error.status_code == 429 else error.headers
        code = codes.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"))
        return _problem(error.status_code, code, str(error.detail), headers=headers)


def _problem(
    status: int, code: str, message: str, *, position: int | None = None, headers: Any = None
) -> JSONResponse:
    body = ErrorAnswer(error=Problem(code=code, message=message, position=position))
    return JSONResponse(body.model_dump(), status, headers)


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse large bodies before they are read, and say what a browser may do with the answer."""
    length = request.headers.get("content-length", "0")
    chunked = "transfer-encoding" in request.headers
    if chunked or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        response: Response = _problem(413, "parameters", f"a body has at most {MAX_BODY_BYTES} bytes")
    else:
        response = await call_next(request)
    response.headers.update(SECURITY_HEADERS)
    if request.url.path.startswith("/api/"):
        response.headers["Cache-Control"] = "no-store"
    return response
