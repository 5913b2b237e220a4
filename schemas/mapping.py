"""The Elasticsearch index: its mapping and settings. Field names are a public contract of ``mail-read``.

Messages and attachments are documents of one index, told apart by ``kind``. An attachment carries its
message's fields too, so that every filter works on both without a join.
"""

from typing import Any

INDEX_PREFIX = "mail-v"
MAPPING_VERSION = 1
READ_ALIAS = "mail-read"
WRITE_ALIAS = "mail-write"
VECTOR_DIMENSIONS = 384  # all-MiniLM-L6-v2

# Elasticsearch's own bound on nested objects in a document; what lies beyond stays findable by words.
MAX_CHUNKS = 10_000


def index_name(version: int = MAPPING_VERSION) -> str:
    """The concrete index behind the aliases."""
    return f"{INDEX_PREFIX}{version:06d}"


def settings(replicas: int = 0, shards: int = 1) -> dict[str, Any]:
    """Index settings: near-real-time within a second, nothing that depends on a licence."""
    return {
        "number_of_shards": shards,
        "number_of_replicas": replicas,
        "refresh_interval": "1s",
        "mapping.nested_objects.limit": MAX_CHUNKS,
    }


def mappings(analyzer: str = "standard") -> dict[str, Any]:
    """The strict mapping. ``analyzer`` is ``english`` where the server has it."""
    keyword = {"type": "keyword", "ignore_above": 1024}
    text = {"type": "text", "analyzer": analyzer}
    named = {"type": "text", "analyzer": "standard", "fields": {"raw": keyword}}
    stems = {"type": "text", "analyzer": "whitespace"}  # see schemas.words
    return {
        "dynamic": "strict",
        "properties": {
            # identity
            "kind": keyword,  # "message" or "attachment"
            "mailbox_id": keyword,
            "message_id": keyword,
            "message_key": keyword,
            "thread_id": keyword,
            "part_path": keyword,
            "rfc_message_id": keyword,
            # the message, on both kinds
            "live": {"type": "boolean"},  # false: a tombstone, without content
            "subject": {**text, "fields": {"raw": keyword}},
            "sender": named,
            "to": named,
            "cc": named,
            "sent_at": {"type": "date", "format": "epoch_millis"},
            "label_ids": keyword,
            "has_attachment": {"type": "boolean"},
            # the content
            "text": text,
            "truncated": {"type": "boolean"},
            "filename": named,
            "raw_filename": {"type": "keyword", "index": False, "doc_values": False},
            "content_type": keyword,
            "declared_content_type": keyword,
            "size_bytes": {"type": "long"},
            "sha256": keyword,
            "pages": {"type": "integer"},
            "author": named,
            "title": text,
            "created": keyword,
            "inline": {"type": "boolean"},
            "outcome": keyword,
            "scan": keyword,
            "signature": keyword,
            "skipped_reason": keyword,
            "engines": keyword,
            "seconds": {"type": "float"},
            # what words are matched in: stems of the subject, of names (people, files), of the text
            "subject_stems": stems,
            "names_stems": stems,
            "text_stems": stems,
            "chunks": {
                "type": "nested",
                "properties": {
                    "ordinal": {"type": "integer"},
                    "page": {"type": "integer"},
                    "label": {"type": "keyword", "index": False, "doc_values": False},
                    "text": text,
                    "vector": {
                        "type": "dense_vector",
                        "dims": VECTOR_DIMENSIONS,
                        "index": True,
                        "similarity": "dot_product",  # the vectors are of unit length
                    },
                },
            },
            # what the index worker needs to go on merging: registers by version, and the parts by path
            "registers": {"type": "object", "enabled": False},
            "parts": {"type": "keyword", "index": False, "doc_values": False},
            "indexed_at": {"type": "date", "format": "epoch_millis"},
        },
    }
