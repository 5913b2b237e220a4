"""The Elasticsearch index: its mapping and settings. Field names are a public contract of ``mail-read``.

Messages and attachments are documents of one index, told apart by ``kind``. An attachment carries its
message's fields too, so that every filter works on both without a join.
"""

from typing import Any

INDEX_PREFIX = "mail-v"
MAPPING_VERSION = 1
VECTORS_VERSION = 2  # how pieces are cut and embedded: vectors of another version are made again
READ_ALIAS = "mail-read"
WRITE_ALIAS = "mail-write"
CACHE_INDEX = "mail-content-v1"
CACHE_ALIAS = "mail-content"
VECTOR_DIMENSIONS = 384  # all-MiniLM-L6-v2

_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_STORED = {"type": "keyword", "index": False, "doc_values": False}
_NAMED = {"type": "text", "analyzer": "standard", "norms": False, "fields": {"raw": _KEYWORD}}
_STEMS = {"type": "text", "analyzer": "whitespace"}  # see schemas.words

# Elasticsearch's own bound on nested objects in a document; what lies beyond stays findable by words.
MAX_CHUNKS = 10_000
# A segment with fewer vectors gets no graph: to compare all of them takes about a millisecond, and the graphs
# of small segments are thrown away when they are merged.
FLAT_SEGMENT_VECTORS = 10_000

# Near-real-time within a second, nothing that depends on a licence.
SETTINGS = {
    "number_of_shards": 1,
    "number_of_replicas": 0,
    "refresh_interval": "1s",
    "mapping.nested_objects.limit": MAX_CHUNKS,
}

# Left out, the server would look up each vector of a document, and put it back, at each change of a label.
VECTORS_IN_SOURCE = {"mapping.exclude_source_vectors": False}

# The content cache is read by id, no search looks into an entry, and its loss costs time only.
CACHE_SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0, "codec": "best_compression"}
CACHE_MAPPINGS = {
    "dynamic": "strict",
    "properties": {
        "entry": {"type": "object", "enabled": False},
        "expires_at": {"type": "date", "format": "epoch_millis"},
    },
}


def index_name(version: int = MAPPING_VERSION) -> str:
    """The concrete index behind the aliases."""
    return f"{INDEX_PREFIX}{version:06d}"


def mappings(
    analyzer: str = "standard", encoder: str | None = None, *, flat_segments: bool = False
) -> dict[str, Any]:
    """The strict mapping. ``analyzer`` is ``english`` where the server has it, ``encoder`` whose vectors
    the index is to hold; ``flat_segments`` where the server can do without graphs in small segments."""
    # The server's own choice, one bit a dimension, ranks worse on text of this size.
    vectors: dict[str, Any] = {"type": "int8_hnsw"}
    if flat_segments:
        vectors["flat_index_threshold"] = FLAT_SEGMENT_VECTORS
    # Stems rank, these filter: without the lengths of fields (norms) a document costs the server a third
    # less, because those of documents that stand between pieces are slow to look up.
    text = {"type": "text", "analyzer": analyzer, "norms": False}
    noted = {"encoder": encoder} if encoder else {}
    return {
        "dynamic": "strict",
        "_meta": {"version": MAPPING_VERSION, "vectors": VECTORS_VERSION, **noted},
        "properties": {**_message(text), **_content(text), **_pieces(text, vectors), **_BOOKKEEPING},
    }


def _message(text: dict[str, Any]) -> dict[str, Any]:
    return {
        # identity
        "kind": _KEYWORD,  # "message" or "attachment"
        "mailbox_id": _KEYWORD,
        "message_id": _KEYWORD,
        "message_key": _KEYWORD,
        "thread_id": _KEYWORD,
        "part_path": _KEYWORD,
        "rfc_message_id": _KEYWORD,
        "epoch": {"type": "integer"},
        # Of a message: the newest at which it was seen, or deleted. Of an attachment: the same, as of its
        # last write; what changes nothing else of a message is not written into its attachments.
        "history_id": {"type": "long"},
        "sources": _KEYWORD,  # who reported what stands here: "gmail_api", "imap"
        # the message, on both kinds
        "live": {"type": "boolean"},  # false: a tombstone, without content
        "subject": {**text, "fields": {"raw": _KEYWORD}},
        "sender": _NAMED,
        "to": _NAMED,
        "cc": _NAMED,
        "bcc": _NAMED,
        "reply_to": _NAMED,
        # In lower case: each address, its domain, and the domains above that.
        "sender_address": _KEYWORD,
        "to_address": _KEYWORD,
        "cc_address": _KEYWORD,
        "bcc_address": _KEYWORD,
        "reply_to_address": _KEYWORD,
        "sent_at": {"type": "date", "format": "epoch_millis"},
        "label_ids": _KEYWORD,
        "has_attachment": {"type": "boolean"},
    }


def _content(text: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": text,
        "truncated": {"type": "boolean"},
        "filename": _NAMED,
        "raw_filename": _STORED,
        "content_type": _KEYWORD,
        "declared_content_type": _KEYWORD,
        "size_bytes": {"type": "long"},
        "sha256": _KEYWORD,
        "pages": {"type": "integer"},
        "author": _NAMED,
        "title": text,
        "created": _KEYWORD,
        "inline": {"type": "boolean"},
        "outcome": _KEYWORD,
        "scan": _KEYWORD,
        "signature": _KEYWORD,
        "skipped_reason": _KEYWORD,
        "engines": _KEYWORD,
        "engine_version": {"type": "integer"},
        "seconds": {"type": "float"},
    }


def _pieces(text: dict[str, Any], vectors: dict[str, Any]) -> dict[str, Any]:
    return {
        # what words are matched in: stems of the subject, of names (people, files), of the text
        "subject_stems": _STEMS,
        "names_stems": _STEMS,
        "text_stems": _STEMS,
        "chunk_count": {"type": "integer"},
        "chunks": {
            "type": "nested",
            "properties": {
                "ordinal": {"type": "integer"},
                "page": {"type": "integer"},
                "label": _STORED,
                "text": {**text, "index_options": "docs"},  # which piece has a word, not where in it
                "vector": {
                    "type": "dense_vector",
                    "dims": VECTOR_DIMENSIONS,
                    "index": True,
                    "similarity": "dot_product",  # the vectors are of unit length
                    "index_options": vectors,
                },
            },
        },
    }


_BOOKKEEPING: dict[str, Any] = {
    # what the index worker needs to go on merging: registers by version, and the parts by path
    "registers": {"type": "object", "enabled": False},
    "parts": _STORED,
    # Of a tombstone whose contents still stand in the topic: when they leave it.
    "forget_at": {"type": "date", "format": "epoch_millis"},
    "indexed_at": {"type": "date", "format": "epoch_millis"},
}
