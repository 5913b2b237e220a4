"""What tests do to an emulator from outside: routes under ``/_control``, for callers on this machine only.

======  ==================================================  ==========================================
GET     /_control/mailboxes                                 [{address, messages, and what token.json has}]
GET     /_control/truth                                     {address: {id: {labels, threadId, historyId}}}
GET     /_control/stats                                     {requests, units, rejections, faults, pubsub}
PUT     /_control/faults                                    a list as in ``devstack.gmail.faults``
POST    /_control/clock                                     {"advance_seconds": n}
POST    /_control/mailboxes/{address}/messages?label=L      the raw mail; L may be repeated
DELETE  /_control/mailboxes/{address}/messages/{id}
POST    /_control/mailboxes/{address}/messages/{id}/modify  {"add": [..], "remove": [..]}; trash, untrash
POST    /_control/mailboxes/{address}/labels                {"name": n}
POST    /_control/mailboxes/{address}/history/drop          {"before": historyId}
POST    /_control/mailboxes/{address}/revoke                ends the mailbox's tokens
POST    /_control/mailboxes/{address}/uidvalidity           makes its IMAP folders anew
======  ==================================================  ==========================================
"""

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.gmail.faults import FaultError, FaultPlan, parse_faults
from devstack.gmail.message import StoredMessage
from devstack.gmail.store import Mailbox

if TYPE_CHECKING:
    from devstack.gmail.server import GmailEmulator


class Control:
    """The control routes of one emulator."""

    def __init__(self, emulator: "GmailEmulator") -> None:
        self._emulator = emulator

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add every control route."""
        mailbox = "/_control/mailboxes/{address}"
        router.add_get("/_control/mailboxes", self._list_mailboxes)
        router.add_get("/_control/truth", self._truth)
        router.add_get("/_control/stats", self._stats)
        router.add_put("/_control/faults", self._set_faults)
        router.add_post("/_control/clock", self._advance_clock)
        router.add_post(mailbox + "/messages", self._add_message)
        router.add_delete(mailbox + "/messages/{id}", self._delete_message)
        router.add_post(mailbox + "/messages/{id}/{action:modify|trash|untrash}", self._change_message)
        router.add_post(mailbox + "/labels", self._create_label)
        router.add_post(mailbox + "/history/drop", self._drop_history)
        router.add_post(mailbox + "/revoke", self._revoke)
        router.add_post(mailbox + "/uidvalidity", self._renew_folders)

    async def _list_mailboxes(self, _request: web.Request) -> web.Response:
        return web.json_response(self._emulator.describe()["mailboxes"])

    async def _truth(self, _request: web.Request) -> web.Response:
        return web.json_response({box.address: box.truth() for box in self._emulator.mailboxes.values()})

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self._emulator.stats())

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self._emulator.faults = FaultPlan(parse_faults(await request.json()))
        except FaultError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response({})

    async def _advance_clock(self, request: web.Request) -> web.Response:
        self._emulator.clock.advance(float((await _body(request))["advance_seconds"]))
        return web.json_response({"now": self._emulator.clock()})

    async def _add_message(self, request: web.Request) -> web.Response:
        labels = request.query.getall("label", ["INBOX", "UNREAD"])
        raw = await request.read()
        return _described(self._mailbox(request).add(raw, labels, self._emulator.clock()))

    async def _delete_message(self, request: web.Request) -> web.Response:
        mailbox, message_id = self._message(request)
        mailbox.delete(message_id)
        return web.json_response({})

    async def _change_message(self, request: web.Request) -> web.Response:
        mailbox, message_id = self._message(request)
        action = request.match_info["action"]
        if action == "modify":
            body = await _body(request)
            return _described(mailbox.modify(message_id, body.get("add", ()), body.get("remove", ())))
        return _described(mailbox.trash(message_id) if action == "trash" else mailbox.untrash(message_id))

    async def _create_label(self, request: web.Request) -> web.Response:
        name = (await _body(request))["name"]
        return web.json_response({"id": self._mailbox(request).label_id(name), "name": name})

    async def _drop_history(self, request: web.Request) -> web.Response:
        self._mailbox(request).drop_history_before(int((await _body(request))["before"]))
        return web.json_response({})

    async def _revoke(self, request: web.Request) -> web.Response:
        self._emulator.oauth.revoke(self._mailbox(request).address)
        return web.json_response({})

    async def _renew_folders(self, request: web.Request) -> web.Response:
        self._emulator.imap.folders.renew(self._mailbox(request).address)
        return web.json_response({})

    def _mailbox(self, request: web.Request) -> Mailbox:
        try:
            return self._emulator.mailbox(request.match_info["address"])
        except KeyError as error:
            raise web.HTTPNotFound(text=f"no mailbox {error}") from None

    def _message(self, request: web.Request) -> tuple[Mailbox, str]:
        mailbox, message_id = self._mailbox(request), request.match_info["id"]
        try:
            mailbox.message(message_id)
        except KeyError:
            raise web.HTTPNotFound(text=f"no message {message_id}") from None
        return mailbox, message_id


def require_loopback(request: web.Request) -> None:
    """Raise 403 when the caller is not on this machine."""
    if request.remote is None or not ip_address(request.remote).is_loopback:
        raise web.HTTPForbidden(text="the control routes are for this machine only")


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return body


def _described(message: StoredMessage) -> web.Response:
    return web.json_response(
        {
            "id": message.id,
            "threadId": message.thread_id,
            "labelIds": message.labels,
            "historyId": str(message.history_id),
        }
    )
