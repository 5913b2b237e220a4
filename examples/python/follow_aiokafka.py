"""Follow a label, alert on infected attachments, count mail by sender: ``python follow_aiokafka.py INBOX``.

Says JSON lines. The topic is compacted, so each start reads it from its beginning: nothing has to be kept, no
offset is committed, and what was said is said again.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict

from aiokafka import AIOKafkaConsumer
from connection import DOCUMENTS, for_aiokafka
from merge import Message, contents, decode, is_live, label_ids, merge


def view(message: Message, label: str) -> tuple[list[str], set[str]]:
    """Of a message whom it counts for, and what there is to say of it; of one that is deleted, nothing."""
    parts = contents(message)
    if "" not in parts or not is_live(message):
        return [], set()
    own, says = parts[""], set()
    if label in label_ids(message):
        says.add(json.dumps({"labelled": own["message_id"], "subject": own["message"]["subject"]}))
    for path, part in parts.items():
        if path and part["attachment"]["scan"] == "infected":
            signature = part["attachment"].get("signature")
            says.add(json.dumps({"infected": own["message_id"], "part_path": path, "signature": signature}))
    return [own["message"]["sender"]], says


async def follow(label: str) -> None:
    messages: defaultdict[str, Message] = defaultdict(dict)  # by message key
    senders: Counter[str] = Counter()
    told: Counter[str] = Counter()
    async with AIOKafkaConsumer(DOCUMENTS, auto_offset_reset="earliest", **for_aiokafka()) as consumer:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for record in (record for batch in batches.values() for record in batch):
                key, _, name = record.key.decode().partition("/")
                counted, said = view(messages[key], label)
                merge(messages[key], name, decode(record.value))
                counts, says = view(messages[key], label)
                senders.subtract(counted)
                senders.update(counts)
                for line in says - said:
                    print(line, flush=True)
            if not batches and senders != told:  # all that is there has been read
                told = senders.copy()
                print(json.dumps({"senders": dict(+senders)}), flush=True)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1]))
