"""A dual run: what IMAP sees of a mailbox that the API reads, written down for comparison and nothing else.

What has been written is read back at the start, so there is no cursor that could be wrong: what the topic
does not say of a message is said again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import aclosing

from pydantic import ValidationError

from connectors.broker import Broker
from connectors.errors import EpochEndedError, MailstreamError, NotFoundError, backoff_seconds
from connectors.gmail.message import MailMessage
from connectors.imap.mailbox import ImapMailbox
from connectors.kafka import Producer, Send, read_partition
from connectors.logs import about
from schemas import mime, topics
from schemas.events import MailboxRecord, Observation
from schemas.identity import partition_for

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 600.0


class Observer:
    """Observes one mailbox."""

    def __init__(
        self, mailbox: ImapMailbox, record: MailboxRecord, producer: Producer, kafka: Broker | str
    ) -> None:
        self._mailbox = mailbox
        self._record = record
        self._producer = producer
        self._kafka = kafka
        self._labels: dict[str, frozenset[str]] | None = None  # of each message, as last written down
        self._accounted = (0, 0)

    async def run(self, poll_seconds: float) -> None:
        """Observe for ever; what fails is tried again, ever less often."""
        failures = 0
        listening: asyncio.Task[None] | None = None
        with about(self._record.mailbox_id):
            try:
                while True:
                    try:
                        await self.observe()
                        failures = 0
                        # Not cancelled when the time is up: a thread waits in it.
                        listening = listening or asyncio.create_task(self._mailbox.news())
                        await asyncio.wait({listening}, timeout=poll_seconds)
                        if listening.done():
                            said, listening = listening, None
                            said.result()
                    except EpochEndedError:
                        continue  # Gmail's ids outlive its folders: the next look begins anew
                    except MailstreamError as error:
                        failures += 1
                        backoff = backoff_seconds(failures, MAX_BACKOFF_SECONDS)
                        wait_seconds = max(error.retry_after_seconds or 0.0, backoff)
                        log.warning("IMAP cannot be observed, again in %.0f s: %s", wait_seconds, error)
                        await asyncio.sleep(wait_seconds)
            finally:
                if listening is not None:
                    listening.cancel()
                self._mailbox.close()

    async def observe(self) -> None:
        """Write down everything that is not as it was written down last."""
        known = self._labels
        if known is None:
            known = self._labels = await self._written()
        there = await self._mailbox.messages()
        for message_id, seen in there.items():
            if message_id not in known:
                await self._observe_new(message_id)
            elif known[message_id] != seen.labels:
                await self._write(message_id, "labels", label_ids=tuple(sorted(seen.labels)))
                known[message_id] = seen.labels
        for message_id in known.keys() - there.keys():
            await self._write(message_id, "gone")
            del known[message_id]

    async def _observe_new(self, message_id: str) -> None:
        assert self._labels is not None
        try:
            message = await self._mailbox.message(message_id)
            parts = await part_digests(self._mailbox, message)
        except NotFoundError:
            return  # the next look will not have it
        await self._write(
            message_id,
            "seen",
            thread_id=message.thread_id,
            label_ids=message.label_ids,
            parts=parts,
            size_bytes=message.size_bytes,
            received_at=message.received_at,
        )
        self._labels[message_id] = frozenset(message.label_ids)

    async def _write(self, message_id: str, kind: str, **fields: object) -> None:
        spent, self._accounted = self._accounted, self._mailbox.spent
        observation = Observation.model_validate(
            {
                "mailbox_id": self._record.mailbox_id,
                "epoch": self._record.epoch,
                "message_id": message_id,
                "kind": kind,
                "spent_bytes": self._accounted[0] - spent[0],
                "spent_requests": self._accounted[1] - spent[1],
                **fields,
            }
        )
        await self._producer.send([Send.event(topics.OBSERVATIONS.name, observation.mailbox_id, observation)])

    async def _written(self) -> dict[str, frozenset[str]]:
        """The labels of each message as the topic has them."""
        labels: dict[str, frozenset[str]] = {}
        partitions = await self._producer.partitions(topics.OBSERVATIONS.name)
        partition = partition_for(self._record.mailbox_id, partitions)
        async for record in read_partition(self._kafka, topics.OBSERVATIONS.name, partition):
            if record.key != self._record.mailbox_id:
                continue
            try:
                observation = Observation.decode(record.value or b"")
            except ValidationError:
                continue
            if observation.epoch != self._record.epoch or observation.kind == "spent":
                continue
            if observation.kind == "gone":
                labels.pop(observation.message_id, None)
            else:
                labels[observation.message_id] = frozenset(observation.label_ids)
        return labels


async def part_digests(mailbox: ImapMailbox, message: MailMessage) -> dict[str, str]:
    """SHA-256 by part path: of each attachment's bytes, and under the empty path of the mail's own text."""
    digests = {}
    for leaf in mime.attachments(message.root):
        digest = hashlib.sha256(leaf.part.body or b"")
        if leaf.part.reference is not None:
            blocks = mailbox.attachment_stream(message.message_id, leaf.part.reference)
            async with aclosing(blocks):
                async for block in blocks:
                    digest.update(block)
        digests[leaf.path] = digest.hexdigest()
    bodies = []
    for leaf in mime.body_leaves(message.root):
        part, body = leaf.part, leaf.part.body or b""
        if part.reference is not None:
            body = await mailbox.attachment(message.message_id, part.reference)
        bodies.append((body, part.charset))
    return {"": mime.text_digest(bodies), **digests}
