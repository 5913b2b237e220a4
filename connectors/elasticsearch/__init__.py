"""Elasticsearch. ``index`` is the mail index; a further use of the server is a file of its own beside it, and
imported from there: a search needs none of them."""

import sys

# The client imports every HTTP library that is there and that it might use; ours is aiohttp. Without the rest
# a command that searches starts a quarter sooner.
_unused = [name for name in ("httpx", "requests") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_unused))  # type: ignore[arg-type] # None: not to be found
try:
    import elasticsearch  # noqa: F401
finally:
    for _name in _unused:
        del sys.modules[_name]

from connectors.elasticsearch.documents import Stored, Write  # noqa: E402
from connectors.elasticsearch.index import Index  # noqa: E402
from connectors.elasticsearch.server import Server  # noqa: E402

__all__ = ["Index", "Server", "Stored", "Write"]
