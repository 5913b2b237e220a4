"""What stands in a topic."""

from connectors.broker import Broker
from connectors.kafka import Log


async def read_all(kafka: Broker | str, topic: str) -> list[tuple[str, bytes | None]]:
    """Every record of a topic from its start to its end, in the order of each partition."""
    async with Log.open(kafka, topic) as log:
        return [(record.key, record.value) async for record in log.read()]
