"""The same with Faust, by as many workers as are started: ``python follow_faust.py worker --without-web``.

What is known of the messages stands in a table, whose changelog in Kafka survives the workers. Faust's usual
loop loses the message whose body raises; so each is acked when it is done, and a worker that fails ends.
"""

import json
import os
import sys
from collections import Counter
from typing import Any

import faust
from connection import DOCUMENTS, for_faust
from follow_aiokafka import view
from merge import decode, merge
from mode.supervisors import CrashingSupervisor

LABEL = os.environ["LABEL"]
app = faust.App(
    os.environ.get("GROUP", "follow-faust"),
    **for_faust(),
    store="memory://",
    agent_supervisor=CrashingSupervisor,
    stream_wait_empty=False,
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    topic_replication_factor=int(os.environ.get("REPLICATION", "1")),
    table_standby_replicas=0,
)
documents = app.topic(DOCUMENTS, key_type=bytes, value_type=bytes, value_serializer="raw")
# A table has as many partitions as the topic that fills it.
messages = app.Table("messages", default=dict, partitions=int(os.environ.get("DOCUMENTS_PARTITIONS", "6")))
told: Counter[str] = Counter()


@app.agent(documents, concurrency=1)
async def follow(stream: Any) -> None:
    async for event in stream.noack().events():
        key, _, name = event.key.decode().partition("/")
        message = messages[key]
        _, said = view(message, LABEL)
        merge(message, name, decode(event.value))
        messages[key] = message
        for line in view(message, LABEL)[1] - said:
            print(line, file=sys.__stdout__, flush=True)
        event.ack()


@app.timer(1.0)
async def count() -> None:
    global told
    senders = Counter(sender for message in messages.values() for sender in view(message, LABEL)[0])
    if senders != told:
        told = senders
        print(json.dumps({"senders": dict(senders)}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    app.main()
