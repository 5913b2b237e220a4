"""Elasticsearch. ``index`` is the mail index; a further use of the server is a file of its own beside it, and
imported from there: a search needs none of them."""

from connectors.absent import absent

# The client imports every HTTP library that is there and that it might use; ours is aiohttp. Without the rest
# a command that searches starts a quarter sooner.
with absent("httpx", "requests"):
    import elasticsearch  # noqa: F401

from connectors.elasticsearch.documents import Stored, Write
from connectors.elasticsearch.index import Index
from connectors.elasticsearch.server import Server

__all__ = ["Index", "Server", "Stored", "Write"]
