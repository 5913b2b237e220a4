"""Elasticsearch's errors as ours, mapped at this one edge."""

import ssl

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError

from connectors.errors import ConfigurationError, UnavailableError
from connectors.tls import refused_handshake

MISSING = 404
BUSY = frozenset({429, 503})
NO_INDEX = "the index does not exist: start `mailstream worker index`, which creates it"
UNKNOWN, FORBIDDEN = 401, 403
BLOCKED = "cluster_block_exception"  # the same status, but whoever asks
ABSENT = "Elasticsearch does not answer: start it (`mailstream devstack up`), or set ELASTICSEARCH_URL"


class mapped:  # noqa: N801 - reads as a statement: with mapped():
    """Turn the client's errors into ours, at this one edge."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TlsError):
            raise _refused(error) from error
        if isinstance(error, TransportConnectionError | ConnectionTimeout):
            raise UnavailableError(ABSENT) from error
        if isinstance(error, ApiError):
            status = error.meta.status
            if status in BUSY or status >= 500:
                raise UnavailableError(f"Elasticsearch answered {status}: {error.error}") from error
            if status == MISSING:
                raise ConfigurationError(NO_INDEX) from error
            if status == UNKNOWN:
                raise ConfigurationError(
                    "Elasticsearch refuses ELASTICSEARCH_API_KEY (401): it is wrong, has expired, or is not"
                    " set"
                ) from error
            if status == FORBIDDEN and error.error != BLOCKED:
                raise ConfigurationError(
                    "ELASTICSEARCH_API_KEY has no right to what was asked of Elasticsearch (403)"
                ) from error
            raise ConfigurationError(f"Elasticsearch answered {status}: {_types(error)}") from error
        if isinstance(error, TransportError):
            raise UnavailableError(ABSENT) from error


def _types(error: ApiError) -> str:
    """What went wrong by its names alone: reasons quote queries and values, and both are private."""
    said = error.body.get("error") if isinstance(error.body, dict) else None
    causes = said.get("root_cause", []) if isinstance(said, dict) else []
    return " ".join(dict.fromkeys([error.error, *(str(cause.get("type")) for cause in causes)]))


def _refused(error: TlsError) -> ConfigurationError:
    """Why there is no TLS with the server; the HTTP client wraps what OpenSSL says and knows the address."""
    wrapped: object = error
    while isinstance(wrapped, TlsError) and wrapped.errors:  # one for each attempt
        wrapped = wrapped.errors[0]
    cause = getattr(wrapped, "certificate_error", getattr(wrapped, "os_error", wrapped))
    server = f"{getattr(wrapped, 'host', '')}:{getattr(wrapped, 'port', '')}"
    if isinstance(cause, ssl.SSLError):
        return refused_handshake(cause, server, "ELASTICSEARCH")
    return ConfigurationError(f"no TLS with Elasticsearch: {error.message}")
