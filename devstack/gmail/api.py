"""What each method of the Gmail API answers, apart from who may ask and how often."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from devstack.gmail.errors import invalid_argument, not_found
from devstack.gmail.faults import Fault, FaultPlan
from devstack.gmail.message import MessageReader, StoredMessage
from devstack.gmail.oauth import METADATA_SCOPES, READ_SCOPES, Grant
from devstack.gmail.paging import make_token, page_size, read_token, stale_token
from devstack.gmail.payload import base64url
from devstack.gmail.pubsub import PubSub
from devstack.gmail.query import Query, shows_spam_and_trash
from devstack.gmail.store import HISTORY_FIELDS, Mailbox

if TYPE_CHECKING:
    from multidict import MultiMapping

Json = dict[str, Any]
FORMATS = {"minimal", "full", "raw", "metadata"}
_HEX_DIGITS = set("0123456789abcdef")


class Call:
    """One request: whose mailbox, which parameters, which body."""

    def __init__(
        self, mailbox: Mailbox, grant: Grant, path: dict[str, str], query: "MultiMapping[str]", body: Json
    ) -> None:
        self.mailbox = mailbox
        self.grant = grant
        self.path = path
        self.query = query
        self.body = body

    def message(self) -> StoredMessage:
        """The message that the path names. Raises ApiError 400 or 404."""
        message_id = self.path["id"]
        if len(message_id) > 16 or not set(message_id) <= _HEX_DIGITS:
            raise invalid_argument("Invalid id value")
        try:
            return self.mailbox.message(message_id)
        except KeyError:
            raise not_found() from None

    def flag(self, name: str) -> bool:
        """A parameter that is true or false."""
        return self.query.get(name, "false").lower() == "true"


class GmailApi:
    """The methods by their quota names; each takes a ``Call`` and gives the resource, or raises ApiError."""

    def __init__(
        self,
        reader: MessageReader,
        faults: Callable[[], FaultPlan],
        pubsub: PubSub,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._faults = faults
        self._pubsub = pubsub
        self._clock = clock

    def routes(self) -> list[tuple[str, str, str, Callable[[Call], Json | None]]]:
        """HTTP method, path below the user, the method's name in the quota tables, the method."""
        return [
            ("GET", "/profile", "getProfile", self.get_profile),
            ("POST", "/watch", "watch", self.watch),
            ("POST", "/stop", "stop", self.stop),
            ("GET", "/messages", "messages.list", self.list_messages),
            ("GET", "/messages/{id}", "messages.get", self.get_message),
            ("GET", "/messages/{id}/attachments/{attachmentId}", "attachments.get", self.get_attachment),
            ("GET", "/history", "history.list", self.list_history),
            ("GET", "/labels", "labels.list", self.list_labels),
            ("GET", "/labels/{id}", "labels.get", self.get_label),
        ]

    # --- the user ------------------------------------------------------------------------------------

    def get_profile(self, call: Call) -> Json:
        """users.getProfile."""
        call.grant.require(METADATA_SCOPES)
        messages = call.mailbox.messages()
        return {
            "emailAddress": call.mailbox.address,
            "messagesTotal": len(messages),
            "threadsTotal": len({message.thread_id for message in messages}),
            "historyId": str(call.mailbox.history_id),
        }

    def watch(self, call: Call) -> Json:
        """users.watch."""
        call.grant.require(METADATA_SCOPES)
        return dict(self._pubsub.watch(call.mailbox, call.body))

    def stop(self, call: Call) -> None:
        """users.stop."""
        call.grant.require(METADATA_SCOPES)
        self._pubsub.stop(call.mailbox)

    # --- messages ------------------------------------------------------------------------------------

    def list_messages(self, call: Call) -> Json:
        """messages.list, newest first."""
        query = call.query.get("q", "")
        call.grant.require(READ_SCOPES if query else METADATA_SCOPES)
        wanted = call.query.getall("labelIds", [])
        everywhere = (
            call.flag("includeSpamTrash")
            or bool({"SPAM", "TRASH"} & set(wanted))
            or shows_spam_and_trash(query)
        )
        size = page_size(call.query.get("maxResults"))
        request = ["messages.list", call.mailbox.address, query, sorted(wanted), everywhere]
        after = self._position(call, "messages.list", request)
        terms = Query(query, call.mailbox, self._reader, self._clock()) if query else None
        found = [
            message
            for message in call.mailbox.messages()
            if (everywhere or not (message.has("SPAM") or message.has("TRASH")))
            and all(map(message.has, wanted))
            and (terms is None or terms.matches(message))
        ]
        answer: Json = {"resultSizeEstimate": len(found)}
        if after is not None:
            # The token tells the last message given, so mail that arrives meanwhile shifts no page.
            found = [message for message in found if [message.internal_date, message.id] < after]
        if page := found[:size]:
            answer["messages"] = [{"id": message.id, "threadId": message.thread_id} for message in page]
        if len(found) > size:
            answer["nextPageToken"] = make_token([page[-1].internal_date, page[-1].id], request)
        return answer

    def get_message(self, call: Call) -> Json:
        """messages.get."""
        form = call.query.get("format", "full").lower()
        if form not in FORMATS:
            raise invalid_argument(f"Invalid value for format: {form}")
        call.grant.require(READ_SCOPES if form in {"full", "raw"} else METADATA_SCOPES)
        message = call.message()
        if self._strike("gone_between_list_and_get", "messages.get", call):
            call.mailbox.delete(message.id)
            raise not_found()
        behind = form == "full" and self._strike("body_behind_attachment_id", "messages.get", call)
        return self._reader.resource(
            message,
            form,
            call.query.getall("metadataHeaders", []),
            texts_behind_references=bool(behind),
        )

    def get_attachment(self, call: Call) -> Json:
        """messages.attachments.get. An id of an earlier get is refused once enough gets have followed."""
        call.grant.require(READ_SCOPES)
        content = self._reader.attachment(call.message(), call.path["attachmentId"])
        if content is None:
            raise invalid_argument("Invalid attachment token")
        return {"size": len(content), "data": base64url(content)}

    # --- history -------------------------------------------------------------------------------------

    def list_history(self, call: Call) -> Json:
        """history.list, oldest first. Raises ApiError 404 for a startHistoryId out of reach."""
        call.grant.require(METADATA_SCOPES)
        start = call.query.get("startHistoryId", "")
        if not start.isdecimal():
            raise invalid_argument("Missing or invalid startHistoryId")
        kinds = frozenset(call.query.getall("historyTypes", list(HISTORY_FIELDS)))
        if not kinds <= set(HISTORY_FIELDS):
            raise invalid_argument("Invalid value for historyTypes")
        label_id = call.query.get("labelId")
        size = page_size(call.query.get("maxResults"))
        request = ["history.list", call.mailbox.address, start, sorted(kinds), label_id]
        position = self._position(call, "history.list", request)
        if self._strike("expired_history", "history.list", call):
            raise not_found()
        try:
            records = call.mailbox.history_after(int(start))
        except KeyError:
            raise not_found() from None
        after = int(start) if position is None else int(position[0])
        # A push may have come before its change can be seen here.
        newest = max(self._pubsub.visible_history_id(call.mailbox), int(start))
        answer: Json = {"historyId": str(newest)}
        if self._strike("empty_history_page", "history.list", call):
            return {**answer, "nextPageToken": make_token([after], request)}
        page: list[Json] = []
        # A mailbox may have a long history: no page of it looks through all.
        for record in islice(records, bisect_right(records, after, key=attrgetter("id")), None):
            if record.id > newest:
                break
            if len(page) == size:
                # What remains may all be filtered out: then the next page is empty, as with Gmail.
                answer["nextPageToken"] = make_token([after], request)
                break
            after = record.id
            if (resource := record.resource(kinds, label_id)) is not None:
                page.append(resource)
        if page:
            answer["history"] = page
        return answer

    # --- labels --------------------------------------------------------------------------------------

    def list_labels(self, call: Call) -> Json:
        """labels.list."""
        call.grant.require(METADATA_SCOPES)
        return {"labels": call.mailbox.label_resources()}

    def get_label(self, call: Call) -> Json:
        """labels.get, with its counts."""
        call.grant.require(METADATA_SCOPES)
        label_id = call.path["id"]
        for resource in call.mailbox.label_resources():
            if resource["id"] == label_id:
                break
        else:
            raise not_found()
        messages = [message for message in call.mailbox.messages() if message.has(label_id)]
        unread = [message for message in messages if message.has("UNREAD")]
        return {
            **resource,
            "messagesTotal": len(messages),
            "messagesUnread": len(unread),
            "threadsTotal": len({message.thread_id for message in messages}),
            "threadsUnread": len({message.thread_id for message in unread}),
        }

    def _strike(self, kind: str, method: str, call: Call) -> Fault | None:
        return self._faults().strike(kind, method, call.mailbox.address)

    def _position(self, call: Call, method: str, request: Any) -> list[Any] | None:
        token = call.query.get("pageToken")
        if not token:
            return None
        if self._strike("stale_page_token", method, call):
            raise stale_token()
        return read_token(token, request)
