"""Cloud Pub/Sub as Gmail uses it: watches, topics, push with a signed OIDC token, and pull.

Subscriptions are made as in the real service (``PUT /v1/projects/{p}/subscriptions/{s}``), with a
``pushConfig`` or without one. Topics need no creation.
"""

import asyncio
import base64
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from devstack.gmail.errors import invalid_argument, not_found
from devstack.gmail.faults import Fault, FaultPlan
from devstack.gmail.signing import SigningKey
from devstack.gmail.store import Mailbox

WATCH_SECONDS = 7 * 86_400
ACK_DEADLINE_SECONDS = 10
# Gmail sends one notification a second and user, and drops the others.
NOTIFICATION_INTERVAL_SECONDS = 1.0
PUSH_ATTEMPTS = 5
PUSH_TIMEOUT_SECONDS = 10
FIRST_RETRY_SECONDS = 0.1
PUSH_ACCOUNT = "gmail-push@emulated-project.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Watch:
    """A mailbox's watch. ``expires_at`` in seconds since 1970."""

    topic: str
    label_ids: frozenset[str]
    exclude: bool
    expires_at: float

    def concerns(self, labels: frozenset[str]) -> bool:
        """Whether a change that touches these labels is announced."""
        return not self.label_ids or bool(self.label_ids & labels) is not self.exclude


@dataclass
class Subscription:
    """A subscription and what it has not delivered. ``leases`` maps an ackId to (message, its end)."""

    name: str
    topic: str
    push_endpoint: str | None = None
    audience: str | None = None
    service_account: str = PUSH_ACCOUNT
    waiting: list[dict[str, Any]] = field(default_factory=list)
    leases: dict[str, tuple[dict[str, Any], float]] = field(default_factory=dict)


class PubSub:
    """Topics and subscriptions of the emulator. Its methods belong to the event loop's thread."""

    def __init__(
        self,
        clock: Callable[[], float],
        signing_key: Callable[[], SigningKey],
        interval_seconds: float = NOTIFICATION_INTERVAL_SECONDS,
        faults: Callable[[], FaultPlan] = FaultPlan,
    ) -> None:
        self._clock = clock
        self._signing_key = signing_key
        self._interval_seconds = interval_seconds
        self._faults = faults
        self._announced: dict[str, int] = {}  # address -> the historyId of its last notification
        self._hidden: dict[str, tuple[int, float]] = {}  # address -> (what can be seen, until when)
        self._watches: dict[str, Watch] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._notified_at: dict[str, float] = {}
        self._ids = itertools.count(1)
        self._pushes: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()  # published, dropped, pushed, push_failures

    # --- watch ---------------------------------------------------------------------------------------

    def watch(self, mailbox: Mailbox, request: dict[str, Any]) -> dict[str, str]:
        """users.watch: the answer, after an immediate notification. Raises ApiError 400."""
        topic = str(request.get("topicName", ""))
        if not topic.startswith("projects/") or "/topics/" not in topic:
            raise invalid_argument("Invalid topicName does not match projects/*/topics/*")
        behavior = str(request.get("labelFilterBehavior") or request.get("labelFilterAction") or "include")
        expires_at = self._clock() + WATCH_SECONDS
        labels = frozenset(map(str, request.get("labelIds", ())))
        self._watches[mailbox.address] = Watch(topic, labels, behavior.lower() == "exclude", expires_at)
        self._publish(topic, mailbox)
        return {"historyId": str(mailbox.history_id), "expiration": str(int(expires_at * 1000))}

    def stop(self, mailbox: Mailbox) -> None:
        """users.stop."""
        self._watches.pop(mailbox.address, None)

    def changed(self, mailbox: Mailbox, labels: frozenset[str]) -> None:
        """Announce a change if somebody watches."""
        watch = self._watches.get(mailbox.address)
        now = self._clock()
        if watch is None or watch.expires_at <= now or not watch.concerns(labels):
            return
        if now - self._notified_at.get(mailbox.address, float("-inf")) < self._interval_seconds:
            self.counts["dropped"] += 1
            return
        self._publish(watch.topic, mailbox)

    def visible_history_id(self, mailbox: Mailbox) -> int:
        """The newest historyId that history.list shows of a mailbox."""
        history_id, until = self._hidden.get(mailbox.address, (0, 0.0))
        return history_id if self._clock() < until else mailbox.history_id

    def _publish(self, topic: str, mailbox: Mailbox) -> None:
        now, address = self._clock(), mailbox.address
        before = self._announced.get(address, mailbox.history_id)
        self._notified_at[address] = now
        self._announced[address] = mailbox.history_id

        def strike(kind: str) -> Fault | None:
            return self._faults().strike(kind, "push", address)

        if fault := strike("push_early"):
            self._hidden[address] = (before, now + fault.seconds)
        as_text = strike("history_id_number")
        notice = {
            "emailAddress": address,
            "historyId": str(mailbox.history_id) if as_text else mailbox.history_id,
        }
        message = {
            "data": base64.urlsafe_b64encode(json.dumps(notice).encode()).decode(),
            "messageId": str(next(self._ids)),
            "publishTime": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
        }
        self.counts["published"] += 1
        if strike("push_dropped"):
            return
        fault = strike("push_duplicated")
        for _ in range(fault.copies if fault else 1):
            self._deliver(topic, message)

    def _deliver(self, topic: str, message: dict[str, Any]) -> None:
        for subscription in self._subscriptions.values():
            if subscription.topic != topic:
                continue
            if subscription.push_endpoint is None:
                subscription.waiting.append(message)
            else:
                task = asyncio.create_task(self._push(subscription, subscription.push_endpoint, message))
                self._pushes.add(task)
                task.add_done_callback(self._pushes.discard)

    # --- subscriptions -------------------------------------------------------------------------------

    def subscribe(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Create or replace a subscription. Raises ApiError 400 without a topic."""
        topic = request.get("topic")
        if not isinstance(topic, str):
            raise invalid_argument("The subscription needs a topic.")
        push = request.get("pushConfig") or {}
        oidc = push.get("oidcToken") or {}
        self._subscriptions[name] = Subscription(
            name,
            topic,
            push.get("pushEndpoint") or None,
            oidc.get("audience"),
            oidc.get("serviceAccountEmail") or PUSH_ACCOUNT,
        )
        return {"name": name, "topic": topic, "pushConfig": push, "ackDeadlineSeconds": ACK_DEADLINE_SECONDS}

    def pull(self, name: str, max_messages: int) -> dict[str, Any]:
        """Lease waiting messages; those whose lease has ended wait again. Raises ApiError 404."""
        subscription = self._subscription(name)
        now = self._clock()
        for ack_id, (message, ends_at) in list(subscription.leases.items()):
            if ends_at <= now:
                del subscription.leases[ack_id]
                subscription.waiting.append(message)
        received = []
        for message in subscription.waiting[:max_messages]:
            ack_id = f"ack-{next(self._ids)}"
            subscription.leases[ack_id] = (message, now + ACK_DEADLINE_SECONDS)
            received.append({"ackId": ack_id, "message": message})
        del subscription.waiting[:max_messages]
        return {"receivedMessages": received} if received else {}

    def acknowledge(self, name: str, ack_ids: list[str]) -> dict[str, Any]:
        """Forget leased messages; an unknown ackId is ignored, as in the real service."""
        leases = self._subscription(name).leases
        for ack_id in ack_ids:
            leases.pop(ack_id, None)
        return {}

    def _subscription(self, name: str) -> Subscription:
        if name not in self._subscriptions:
            raise not_found()
        return self._subscriptions[name]

    # --- push ----------------------------------------------------------------------------------------

    async def _push(self, subscription: Subscription, endpoint: str, message: dict[str, Any]) -> None:
        body = {"message": message, "subscription": subscription.name}
        delay_seconds = FIRST_RETRY_SECONDS
        timeout = aiohttp.ClientTimeout(total=PUSH_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for _ in range(PUSH_ATTEMPTS):
                headers = {"Authorization": f"Bearer {self.oidc_token(subscription, endpoint)}"}
                try:
                    async with session.post(endpoint, json=body, headers=headers) as response:
                        if response.status < 300:
                            self.counts["pushed"] += 1
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass  # the endpoint is away: as bad as a refusal, and tried again like one
                await asyncio.sleep(delay_seconds)
                delay_seconds *= 2
        self.counts["push_failures"] += 1

    def oidc_token(self, subscription: Subscription, endpoint: str) -> str:
        """The token that goes with a push; its audience is the endpoint unless configured."""
        now = int(self._clock())
        return self._signing_key().sign(
            {
                "iss": "https://accounts.google.com",
                "aud": subscription.audience or endpoint,
                "azp": "100000000000000000002",
                "sub": "100000000000000000002",
                "email": subscription.service_account,
                "email_verified": True,
                "iat": now,
                "exp": now + 3600,
            }
        )

    async def close(self) -> None:
        """Give up the pushes under way."""
        for task in self._pushes:
            task.cancel()
        await asyncio.gather(*self._pushes, return_exceptions=True)
