"""Elasticsearch. ``index`` is the mail index; a further use of the server is a file of its own beside it."""

from connectors.elasticsearch.bulk import Stored, Write
from connectors.elasticsearch.content_cache import ContentCache
from connectors.elasticsearch.index import Index
from connectors.elasticsearch.server import Server
from connectors.elasticsearch.vectors import Vectors
from connectors.elasticsearch.versions import Version, Versions

__all__ = ["ContentCache", "Index", "Server", "Stored", "Vectors", "Version", "Versions", "Write"]
