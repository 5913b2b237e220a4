"""Every metric, declared once: name, kind, unit, meaning. Labels carry ids' hashes and closed lists only."""

from prometheus_client import Counter, Gauge, Histogram

gmail_sync_latency_histogram = Histogram(
    "gmail_sync_latency_histogram",
    "Seconds from a change's event to its registers confirmed in mail.documents",
    ["lane"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
gmail_api_quota_gauge = Gauge(
    "gmail_api_quota_gauge", "Gmail API units that this process may spend at once on a mailbox", ["mailbox"]
)
gmail_history_gap_gauge = Gauge(
    "gmail_history_gap_gauge",
    "History ids from the cursor to Gmail's newest, at the last poll",
    ["mailbox"],
)
gmail_attachments_processed_counter = Counter(
    "gmail_attachments_processed_counter", "Attachments that ended, by outcome", ["outcome"]
)
gmail_attachments_skipped_counter = Counter(
    "gmail_attachments_skipped_counter", "Attachments whose bytes were not read, by reason", ["reason"]
)
gmail_attachments_scanned_counter = Counter(
    "gmail_attachments_scanned_counter",
    "Attachments that a malware scanner was asked about, by its verdict",
    ["verdict"],
)
ephemeral_oldest_gauge = Gauge(
    "ephemeral_oldest_seconds", "Age of the oldest file in the ephemeral directory, after the reaper's round"
)
ephemeral_bytes_gauge = Gauge("ephemeral_bytes", "Bytes in the ephemeral directory, after the reaper's round")
ephemeral_reaped_counter = Counter("ephemeral_reaped", "Files and directories that the reaper removed")
gmail_requests_counter = Counter("gmail_requests", "Requests to the Gmail API, by method", ["method"])
source_events_counter = Counter("source_events", "Events emitted by the source, by topic", ["topic"])
dead_letters_counter = Counter("dead_letters", "Events that failed for good, by stage", ["stage"])
index_documents_counter = Counter("index_documents", "Documents written to Elasticsearch, by kind", ["kind"])
index_conflicts_counter = Counter(
    "index_conflicts", "Writes that lost a compare-and-set and were merged again"
)
index_forwarded_counter = Counter(
    "index_forwarded", "Registers written again because an older version stood behind them in the topic"
)
index_forgotten_counter = Counter(
    "index_forgotten", "Deleted messages whose contents were taken out of mail.documents"
)
content_cache_counter = Counter(
    "content_cache",
    "Lookups in the content cache: kinds verdict, text, vectors; away counts its failures",
    ["kind", "found"],
)
index_chunks_counter = Counter("index_chunks", "Chunks embedded")
source_audit_gauge = Gauge(
    "source_audit_gauge",
    "Messages that an audit found missing, stale or with other labels than in Gmail",
    ["mailbox", "difference"],
)
gmail_watch_expiry_gauge = Gauge(
    "gmail_watch_expiry_gauge", "When a mailbox's watch ends, in seconds since 1970", ["mailbox"]
)
source_mailboxes_gauge = Gauge("source_mailboxes", "Mailboxes that this process follows")
gmail_pushes_counter = Counter("gmail_pushes", "Gmail's notifications, by what became of them", ["outcome"])
search_requests_counter = Counter(
    "search_requests", "Requests to the search API, by what was asked", ["action"]
)
search_seconds_histogram = Histogram(
    "search_seconds", "Seconds until the search API had an answer, by what was asked", ["action"]
)
source_parked_counter = Counter(
    "source_parked", "Mailboxes that were parked because Google refused them: somebody must look", ["reason"]
)
