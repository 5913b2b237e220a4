"""The emulator's HTTP side: who asks, quota, faults, and Google's words for what goes wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import BasicAuth, web

from devstack.gmail.api import Call, Json
from devstack.gmail.control import Control, require_loopback
from devstack.gmail.directory import list_members, list_users
from devstack.gmail.errors import (
    ApiError,
    delegation_denied,
    failed_precondition,
    invalid_argument,
    rate_limited,
    server_error,
)
from devstack.gmail.faults import FAULTS, Fault
from devstack.gmail.fields import apply_fields
from devstack.gmail.oauth import DIRECTORY_SCOPES, MEMBER_SCOPES, PUBSUB_SCOPES, Grant, OAuthError
from devstack.gmail.store import Mailbox

if TYPE_CHECKING:
    from devstack.gmail.server import GmailEmulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_REQUEST_BYTES = 128 * 1024 * 1024
SLOW_SLICES = 10


def make_application(emulator: "GmailEmulator") -> web.Application:
    """Every route of the emulator."""
    application = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[_answer_errors])
    router = application.router
    routes = Routes(emulator)
    for http_method, path, method, answer in emulator.api.routes():
        handler = routes.gmail(method, answer)
        router.add_route(http_method, "/gmail/v1/users/{userId}" + path, handler)
    router.add_get("/admin/directory/v1/users", routes.directory)
    router.add_get("/admin/directory/v1/groups/{group}/members", routes.members)
    subscription = "/v1/projects/{project}/subscriptions/{subscription}"
    router.add_put(subscription, routes.subscribe)
    router.add_post(subscription + ":pull", routes.pull)
    router.add_post(subscription + ":acknowledge", routes.acknowledge)
    for path in ("/o/oauth2/auth", "/o/oauth2/v2/auth"):
        router.add_get(path, routes.consent)
    router.add_post("/token", routes.token)
    router.add_get("/oauth2/v1/certs", routes.certificates)
    router.add_get("/oauth2/v3/certs", routes.json_web_keys)
    Control(emulator).add_routes(router)
    return application


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/_control/"):
        require_loopback(request)
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body(), status=error.code, headers=error.headers())
    except OAuthError as error:
        return web.json_response(error.body, status=error.code)


class Routes:
    """The handlers of everything but the control routes."""

    def __init__(self, emulator: "GmailEmulator") -> None:
        self._emulator = emulator
        self._bandwidth: dict[str, float] = {}  # address -> until when no body is given

    # --- Gmail ---------------------------------------------------------------------------------------

    def gmail(self, method: str, answer: Callable[[Call], Json | None]) -> Handler:
        """The handler of one Gmail method."""

        async def handle(request: web.Request) -> web.StreamResponse:
            grant = self._authenticate(request)
            mailbox = self._mailbox(grant, request.match_info["userId"])
            self._emulator.meter.spend(mailbox.address, method)
            faults = self._emulator.faults
            if faults.strike("connection_reset", method, mailbox.address):
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            self._strike(method, mailbox.address)
            body = await _json_body(request) if request.body_exists else {}
            call = Call(mailbox, grant, dict(request.match_info), request.query, body)
            try:
                resource = answer(call)
            except FileNotFoundError as error:
                raise server_error(500) from error  # the mail file was taken away under us
            if resource is None:
                return web.Response(status=204)
            if fields := request.query.get("fields"):
                resource = apply_fields(resource, fields)
            if faults.strike("history_id_number", method, mailbox.address):
                resource = _changed(resource, "historyId", int)
            if faults.strike("unpadded_base64url", method, mailbox.address):
                for name in ("data", "raw"):
                    resource = _changed(resource, name, lambda text: text.rstrip("="))
            if faults.strike("reset_mid_body", method, mailbox.address):
                return await _half(request, resource)
            slow = faults.strike("slow_body", method, mailbox.address)
            return await _slowly(request, resource, slow) if slow else web.json_response(resource)

        return handle

    def _strike(self, method: str, address: str) -> None:
        faults, now = self._emulator.faults, self._emulator.clock()
        if fault := faults.strike("bandwidth", method, address):
            self._bandwidth[address] = max(self._bandwidth.get(address, now), now + fault.seconds)
        left_seconds = self._bandwidth.get(address, now) - now
        if left_seconds > 0 and method in FAULTS["bandwidth"]:
            text = "User-rate limit exceeded: bandwidth."
            raise rate_limited(429, "userRateLimitExceeded", text, max(round(left_seconds), 1))
        if fault := faults.strike("rate_limit", method, address):
            code = fault.http_status()
            reason = fault.reason or ("rateLimitExceeded" if code == 429 else "userRateLimitExceeded")
            text = "User-rate limit exceeded."
            if reason == "concurrent":
                reason, text = "rateLimitExceeded", "Too many concurrent requests for user."
            self._emulator.meter.rejections[reason] += 1
            raise rate_limited(code, reason, text, fault.retry_after_seconds)
        if fault := faults.strike("server_error", method, address):
            raise server_error(fault.http_status())
        if faults.strike("failed_precondition", method, address):
            raise failed_precondition()

    def _authenticate(self, request: web.Request) -> Grant:
        return self._emulator.oauth.authenticate(request.headers.get("Authorization"))

    def _mailbox(self, grant: Grant, user_id: str) -> Mailbox:
        if user_id != "me" and user_id.lower() != grant.address.lower():
            raise delegation_denied(user_id)
        try:
            return self._emulator.mailbox(grant.address)
        except KeyError:
            raise failed_precondition() from None  # a service account that acts for nobody has no mail

    # --- Directory and Pub/Sub -----------------------------------------------------------------------

    async def directory(self, request: web.Request) -> web.Response:
        """admin.users.list."""
        self._authenticate(request).require(DIRECTORY_SCOPES)
        answer = list_users(self._emulator.mailboxes.values(), request.query)
        fields = request.query.get("fields")
        return web.json_response(apply_fields(answer, fields) if fields else answer)

    async def members(self, request: web.Request) -> web.Response:
        """admin.members.list."""
        self._authenticate(request).require(MEMBER_SCOPES)
        group = request.match_info["group"]
        return web.json_response(list_members(self._emulator.groups, group, request.query))

    async def subscribe(self, request: web.Request) -> web.Response:
        """pubsub.projects.subscriptions.create."""
        self._authenticate(request).require(PUBSUB_SCOPES)
        return web.json_response(
            self._emulator.pubsub.subscribe(_subscription(request), await _json_body(request))
        )

    async def pull(self, request: web.Request) -> web.Response:
        """pubsub.projects.subscriptions.pull; answers at once, with nothing if nothing waits."""
        self._authenticate(request).require(PUBSUB_SCOPES)
        wanted = (await _json_body(request)).get("maxMessages")
        if not isinstance(wanted, int) or wanted < 1:
            raise invalid_argument("maxMessages must be positive")
        return web.json_response(self._emulator.pubsub.pull(_subscription(request), wanted))

    async def acknowledge(self, request: web.Request) -> web.Response:
        """pubsub.projects.subscriptions.acknowledge."""
        self._authenticate(request).require(PUBSUB_SCOPES)
        ack_ids = (await _json_body(request)).get("ackIds") or []
        return web.json_response(self._emulator.pubsub.acknowledge(_subscription(request), ack_ids))

    # --- OAuth ---------------------------------------------------------------------------------------

    async def consent(self, request: web.Request) -> web.Response:
        """The consent page, which agrees at once."""
        default = next(iter(self._emulator.mailboxes))
        location = self._emulator.oauth.consent(request.query, default)
        return web.Response(status=302, headers={"Location": location})

    async def token(self, request: web.Request) -> web.Response:
        """The token endpoint."""
        if self._emulator.faults.strike("invalid_grant", "token"):
            raise OAuthError("invalid_grant", "Token has been expired or revoked.")
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        if (header := request.headers.get("Authorization", "")).startswith("Basic "):
            try:
                given = BasicAuth.decode(header)
            except ValueError:
                raise OAuthError("invalid_client", "Unauthorized", 401) from None
            form |= {"client_id": given.login, "client_secret": given.password}
        return web.json_response(self._emulator.oauth.token(form), headers={"Cache-Control": "no-store"})

    async def certificates(self, _request: web.Request) -> web.Response:
        """The certificates by key id, as google-auth reads them."""
        key = self._emulator.oauth.signing_key
        return web.json_response({key.key_id: key.certificate_pem()})

    async def json_web_keys(self, _request: web.Request) -> web.Response:
        """The same keys as JSON Web Keys."""
        return web.json_response({"keys": [self._emulator.oauth.signing_key.jwk()]})


def _subscription(request: web.Request) -> str:
    return "projects/{project}/subscriptions/{subscription}".format(**request.match_info)


async def _json_body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise invalid_argument("Invalid JSON payload received.")
    return body


def _changed(resource: Any, name: str, change: Callable[[str], Any]) -> Any:
    """The resource with every field of that name changed, at any depth."""
    if isinstance(resource, dict):
        return {
            key: change(value) if key == name else _changed(value, name, change)
            for key, value in resource.items()
        }
    return [_changed(value, name, change) for value in resource] if isinstance(resource, list) else resource


async def _half(request: web.Request, resource: Json) -> web.StreamResponse:
    content = json.dumps(resource).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    response.content_length = len(content)
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()  # not aborted: the half that was sent is to arrive
    return response


async def _slowly(request: web.Request, resource: Json, fault: Fault) -> web.StreamResponse:
    content = json.dumps(resource).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    response.content_length = len(content)
    await response.prepare(request)
    step = max(len(content) // SLOW_SLICES, 1)
    for start in range(0, len(content), step):
        with suppress(ConnectionResetError):  # who waited for it is gone
            await response.write(content[start : start + step])
        await asyncio.sleep(fault.seconds / SLOW_SLICES)
    await response.write_eof()
    return response
