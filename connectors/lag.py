"""How far each stage is behind, told to the metrics by the source: it is seen, too, when no worker runs."""

import asyncio
import logging

from connectors.broker import Broker
from connectors.errors import MailstreamError
from connectors.kafka import LagMeter
from connectors.metrics import consumer_lag_gauge
from schemas import topics

log = logging.getLogger(__name__)

MEASURE_SECONDS = 10.0


async def measure_lag(kafka: Broker | str) -> None:
    """Go on until cancelled. While Kafka does not tell, the last numbers stand."""
    while True:
        try:
            async with LagMeter.open(kafka) as meter:
                while True:
                    for stage, (group, names) in topics.STAGES.items():
                        for name in names:
                            lag = await meter.lag(group, [name])
                            consumer_lag_gauge.labels(stage=stage, topic=name).set(lag)
                    await asyncio.sleep(MEASURE_SECONDS)
        except MailstreamError as error:
            log.warning("the stages' lag is unknown: %s", error)
            await asyncio.sleep(MEASURE_SECONDS)
