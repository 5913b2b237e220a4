"""Every metric, declared once: kind, name, unit, meaning, labels.

Labels carry hashes of mailbox ids and closed lists only, and the label ``mailbox`` is bounded: see
``MailboxGauge``. ``docs/METRICS.md`` is generated from here.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from schemas.identity import hashed

# What stands in the labels: nothing that a stranger could choose.
LABELS = {
    "action": "what the search API was asked: `search`, `facets`, `message`, ...",
    "difference": "`missing`, `stale` or `labels`",
    "found": "`hit` or `miss`",
    "kind": "a closed list that the meaning names",
    "lane": "`fast` (extract), `slow` (OCR and what had to wait), `push` (from a push to its events)",
    "mailbox": "the hash of a mailbox id, for the first METRICS_MAILBOXES of a process; `all`; `project`",
    "method": "a method of the Gmail API, such as `messages.get`",
    "outcome": "an outcome of `schemas/outcomes.py`, or a closed list that the meaning names",
    "reason": "why an attachment was skipped, or the class of an error",
    "stage": "`source`, `extract`, `slow` or `index`; in dead letters extract is called `fast`",
    "topic": "a topic of `schemas/topics.py`",
    "verdict": "`clean`, `infected`, `unscanned` or `unavailable`",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One declared metric, as it is exported."""

    kind: str  # counter, gauge or histogram
    name: str
    unit: str
    meaning: str
    labels: tuple[str, ...]


# A second series for each counter, which says when it began, is of no use to anybody here.
disable_created_metrics()  # type: ignore[no-untyped-call]

DECLARED: list[Metric] = []
# How many mailboxes of a process have series of their own; ``start_observing`` sets it.
_shown_mailboxes = 100


def _declare(kind: str, name: str, unit: str, meaning: str, labels: Sequence[str]) -> None:
    DECLARED.append(Metric(kind, name, unit, meaning, tuple(labels)))


def _counter(name: str, unit: str, meaning: str, *labels: str) -> Counter:
    _declare("counter", f"{name}_total", unit, meaning, labels)
    return Counter(name, meaning, labels)


def _gauge(name: str, unit: str, meaning: str, *labels: str) -> Gauge:
    _declare("gauge", name, unit, meaning, labels)
    return Gauge(name, meaning, labels)


def _histogram(name: str, unit: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    _declare("histogram", name, unit, meaning, labels)
    return Histogram(name, meaning, labels, buckets=buckets)


class MailboxGauge:
    """A number of every mailbox that a process deals with, exported in bounded space.

    ``mailbox="all"`` is all of them in one number (``over``: the worst, or the sum), computed when somebody
    asks. The first METRICS_MAILBOXES have a series each, which ends with ``forget``.
    """

    def __init__(
        self, name: str, unit: str, meaning: str, *labels: str, over: Callable[[Iterable[float]], float]
    ) -> None:
        said = f"{meaning}; of all mailboxes the {over.__name__}"
        self._gauge = _gauge(name, unit, said, "mailbox", *labels)
        self._labels = labels
        self._over = over
        self._values: dict[tuple[str, ...], dict[str, float]] = {}  # by further labels, then by mailbox
        self._shown: set[str] = set()
        _MAILBOX_GAUGES.append(self)

    def set(self, mailbox_id: str, value: float, **labels: str) -> None:
        """Note a mailbox's number."""
        further = tuple(labels[name] for name in self._labels)
        if further not in self._values:
            values = self._values[further] = {}
            self._gauge.labels("all", *further).set_function(lambda: self._of_all(values))
        mailbox = hashed(mailbox_id)
        self._values[further][mailbox] = value
        if mailbox in self._shown or len(self._shown) < _shown_mailboxes:
            self._shown.add(mailbox)
            self._gauge.labels(mailbox, *further).set(value)

    def _of_all(self, values: dict[str, float]) -> float:
        # A copy, because the process goes on while the metrics are read in a thread of their own. Without a
        # mailbox there is no worst one.
        numbers = list(values.values()) or ([] if self._over is sum else [math.nan])
        return float(self._over(numbers))

    def set_project(self, value: float) -> None:
        """Note the number of the whole project."""
        self._gauge.labels("project").set(value)

    def forget(self, mailbox_id: str) -> None:
        """The mailbox is somebody else's, or nobody's: what was known of it would stand for ever."""
        mailbox = hashed(mailbox_id)
        for further, values in self._values.items():
            values.pop(mailbox, None)
            if mailbox in self._shown:
                self._gauge.remove(mailbox, *further)
        self._shown.discard(mailbox)


_MAILBOX_GAUGES: list[MailboxGauge] = []


def show_mailboxes(most: int) -> None:
    """Give at most that many mailboxes of this process series of their own."""
    global _shown_mailboxes
    _shown_mailboxes = most


def forget_mailbox(mailbox_id: str) -> None:
    """This process has nothing more to say of a mailbox."""
    for gauge in _MAILBOX_GAUGES:
        gauge.forget(mailbox_id)


_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

# --- the names that the user gave
gmail_sync_latency_histogram = _histogram(
    "gmail_sync_latency_histogram",
    "seconds",
    "From a change's event to its registers in mail.documents; lane push: from a push to its events",
    "lane",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
gmail_api_quota_gauge = MailboxGauge(
    "gmail_api_quota_gauge",
    "quota units",
    "Gmail API units that this process could spend at once on a mailbox, after the last request",
    over=min,
)
gmail_history_gap_gauge = MailboxGauge(
    "gmail_history_gap_gauge",
    "history ids",
    "History ids from the cursor to Gmail's newest, at the last poll",
    over=max,
)
gmail_attachments_processed_counter = _counter(
    "gmail_attachments_processed_counter", "attachments", "Attachments that ended, by outcome", "outcome"
)
gmail_attachments_skipped_counter = _counter(
    "gmail_attachments_skipped_counter",
    "attachments",
    "Attachments whose bytes were not read, by reason",
    "reason",
)

# --- every stage
consumer_lag_gauge = _gauge(
    "consumer_lag",
    "events",
    "Events of a topic that a stage has not committed, of all partitions; every source tells the same",
    "stage",
    "topic",
)
stage_events_counter = _counter(
    "stage_events",
    "events",
    "Events that a stage settled: done, deferred, gone (at Gmail), ignored (purged, old, a tombstone),"
    " dead_letter",
    "stage",
    "outcome",
)
stage_seconds_histogram = _histogram(
    "stage_seconds",
    "seconds",
    "From an event's arrival in a stage to its settlement; of the source, one look at a mailbox's history",
    "stage",
    buckets=_SECONDS,
)
stage_oldest_gauge = _gauge(
    "stage_oldest_seconds",
    "seconds",
    "Age of the oldest mail event that a stage has taken and not settled; 0 without any",
    "stage",
)
dead_letters_counter = _counter("dead_letters", "events", "Events that failed for good, by stage", "stage")

# --- source
source_events_counter = _counter("source_events", "events", "Events emitted by the source, by topic", "topic")
source_mailboxes_gauge = _gauge("source_mailboxes", "mailboxes", "Mailboxes that this process follows")
source_parked_counter = _counter(
    "source_parked",
    "mailboxes",
    "Mailboxes that were parked because Google refused them: somebody must look",
    "reason",
)
source_audit_gauge = MailboxGauge(
    "source_audit_gauge",
    "messages",
    "Messages that the last audit found missing, stale or with other labels than in Gmail",
    "difference",
    over=sum,
)
gmail_watch_expiry_gauge = MailboxGauge(
    "gmail_watch_expiry_gauge", "seconds since 1970", "When a mailbox's watch ends", over=min
)
gmail_pushes_counter = _counter(
    "gmail_pushes",
    "notifications",
    "Gmail's notifications: forwarded, duplicate, unknown_mailbox, malformed, refused, forbidden, slow,"
    " busy, unavailable",
    "outcome",
)

# --- Gmail
gmail_requests_counter = _counter("gmail_requests", "requests", "Requests to the Gmail API", "method")
gmail_quota_units_counter = _counter(
    "gmail_quota_units", "quota units", "Gmail API units that were spent", "method"
)
gmail_quota_refused_counter = _counter(
    "gmail_quota_refused",
    "quota units",
    "Units of the requests that Google refused for its quota's sake",
    "method",
)
gmail_requests_waiting_gauge = _gauge(
    "gmail_requests_waiting", "requests", "Requests to the Gmail API that wait until they may be sent"
)

# --- extract
gmail_attachments_scanned_counter = _counter(
    "gmail_attachments_scanned_counter",
    "attachments",
    "Attachments that a malware scanner was asked about, by its verdict",
    "verdict",
)
content_cache_counter = _counter(
    "content_cache",
    "lookups",
    "Lookups in the content cache: kinds verdict, text, vectors, concurrent; away counts its failures",
    "kind",
    "found",
)
ephemeral_oldest_gauge = _gauge(
    "ephemeral_oldest_seconds",
    "seconds",
    "Age of the oldest file in the ephemeral directory, after the reaper's round",
)
ephemeral_bytes_gauge = _gauge(
    "ephemeral_bytes", "bytes", "Bytes in the ephemeral directory, after the reaper's round"
)
ephemeral_reaped_counter = _counter(
    "ephemeral_reaped", "files", "Files and directories that the reaper removed"
)

# --- index
index_documents_counter = _counter(
    "index_documents", "documents", "Documents written to Elasticsearch: kinds message, attachment", "kind"
)
index_conflicts_counter = _counter(
    "index_conflicts", "writes", "Writes that lost a compare-and-set and were merged again"
)
index_forwarded_counter = _counter(
    "index_forwarded",
    "registers",
    "Registers written again because an older version stood behind them in the topic",
)
index_forgotten_counter = _counter(
    "index_forgotten", "messages", "Deleted messages whose contents were taken out of mail.documents"
)
index_bulk_errors_counter = _counter(
    "index_bulk_errors",
    "writes",
    "Writes that Elasticsearch did not take: kinds retry (429, 503: sent again), too_large (413), rejected"
    " (for good), unavailable (a batch that waits for the server, or for its new index)",
    "kind",
)
index_chunks_counter = _counter("index_chunks", "chunks", "Chunks embedded")
embedding_texts_histogram = _histogram(
    "embedding_texts",
    "texts",
    "Texts that the model was given at once",
    buckets=(1, 2, 5, 10, 20, 50, 100, 500),
)
embedding_seconds_histogram = _histogram(
    "embedding_seconds", "seconds", "How long the model took for one such batch", buckets=_SECONDS
)

# --- search
search_requests_counter = _counter(
    "search_requests", "requests", "Requests to the search API, by what was asked", "action"
)
search_timeouts_counter = _counter(
    "search_timeouts", "requests", "Requests that the search API gave up after SERVE_TIMEOUT_SECONDS"
)
search_seconds_histogram = _histogram(
    "search_seconds",
    "seconds",
    "Until the search API had an answer, by what was asked",
    "action",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
