"""Batches in which an event may be poison: what processes died on is tried in ever smaller company.

A batch dies as a whole, so all of it is suspected. Then a few are tried together, then one by one: the third
death is the poison's alone, and it ends as a dead letter. Its neighbours lose nothing but time.
"""

from collections.abc import Awaitable, Callable, Sequence

from connectors.kafka import Record
from connectors.metrics import stage_events_counter
from schemas.registers import decode_register
from streams.attempts import MAX_DEATHS, Attempts, WorkerKilledError, event_of
from streams.dead_letters import DeadLetters

# Tried together after one death.
FEW = 20


class Suspects:
    """Passes batches of ``mail.documents`` on to ``handle``, what was died on apart from the rest."""

    def __init__(
        self,
        attempts: Attempts,
        dead_letters: DeadLetters,
        handle: Callable[[Sequence[Record]], Awaitable[None]],
    ) -> None:
        self._attempts = attempts
        self._dead_letters = dead_letters
        self._handle = handle

    async def handle(self, records: Sequence[Record]) -> None:
        """Handle a batch. Raises what ``handle`` raises."""
        counted = [(record, self._attempts.deaths(event_of(record))) for record in records]
        # What a process died on is not read before its turn.
        counted = [(record, deaths) for record, deaths in counted if not (record.ahead and deaths)]
        if innocent := [record for record, deaths in counted if not deaths]:
            await self._handle(innocent)
        once = [record for record, deaths in counted if deaths == 1]
        for start in range(0, len(once), FEW):
            async with self._attempts.alone:
                await self._handle(once[start : start + FEW])
        for record, deaths in counted:
            if deaths > 1:
                async with self._attempts.alone:
                    await (self._give_up(record, deaths) if deaths >= MAX_DEATHS else self._handle([record]))

    async def _give_up(self, record: Record, deaths: int) -> None:
        try:
            register = decode_register(record.key, record.value or b"", record.headers)
        except ValueError:
            register = None
        await self._dead_letters.write(
            record,
            WorkerKilledError(deaths),
            mailbox_id=register.mailbox_id if register is not None else None,
            message_id=register.message_id if register is not None else None,
            attempts=deaths + 1,
            error_class="worker_killed",
        )
        stage_events_counter.labels(stage="index", outcome="dead_letter").inc()
