"""A worker under the delivery rule, run as a process of its own by test_delivery.

It appends every event that it has settled to a file; what to do with an event stands in its value:
"ok", "raise" (once: a file remembers), "slow".
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import faust

from connectors.kafka import Record
from streams.settle import BatchLimits, create_app, settle_batches, settle_each


def main(bootstrap: str, group: str, topic: str, directory: Path, form: str) -> None:
    app = create_app(group, bootstrap, directory / "faust")
    done, raised = directory / "done", directory / "raised"

    async def handle(record: Record) -> None:
        value = (record.value or b"").decode("utf-8", "replace")
        if value == "raise" and not raised.exists():
            await asyncio.sleep(0.5)  # the events behind it finish first
            raised.touch()
            raise RuntimeError("planted")
        if value == "slow":
            (directory / "slow").touch()
            await asyncio.sleep(60)
        with done.open("a") as file:
            file.write(f"{record.partition}:{record.offset}\n")

    async def handle_batch(records: list[Record]) -> None:
        for record in records:
            await handle(record)

    @app.agent(app.topic(topic, key_type=bytes, value_type=bytes), concurrency=1)
    async def agent(stream: Any) -> None:
        if form == "each":
            await settle_each(stream, handle, 100, "extract")
        else:
            limits = BatchLimits(records=10, size_bytes=1_000_000, in_flight=3)
            await settle_batches(stream, handle_batch, limits, lambda record: str(record.offset), "index")

    faust.Worker(app, loglevel="warning").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5])
