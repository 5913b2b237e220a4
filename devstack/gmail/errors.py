"""Errors of the API, in the words and the JSON that Google uses."""

from typing import Any


class ApiError(Exception):
    """An answer other than 200. ``reason`` is Google's camel-case word, ``status`` its upper-case one."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        status: str,
        *,
        domain: str = "global",
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status = status
        self.domain = domain
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        detail = {"message": self.message, "domain": self.domain, "reason": self.reason}
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "errors": [detail],
                "status": self.status,
            }
        }

    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        if self.code == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        return headers


def not_found() -> ApiError:
    """An unknown message, label or historyId."""
    return ApiError(404, "notFound", "Requested entity was not found.", "NOT_FOUND")


def invalid_argument(message: str) -> ApiError:
    """A parameter that cannot be read."""
    return ApiError(400, "invalidArgument", message, "INVALID_ARGUMENT")


def failed_precondition() -> ApiError:
    """Google's word for a mailbox without Gmail, and now and then for a healthy message."""
    return ApiError(400, "failedPrecondition", "Precondition check failed.", "FAILED_PRECONDITION")


def unauthenticated() -> ApiError:
    """No access token, or one that is unknown or has expired."""
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other"
        " valid authentication credential. See"
        " https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return ApiError(401, "authError", message, "UNAUTHENTICATED")


def insufficient_scope() -> ApiError:
    """A valid access token that does not cover the method."""
    message = "Request had insufficient authentication scopes."
    return ApiError(403, "insufficientPermissions", message, "PERMISSION_DENIED")


def delegation_denied(address: str) -> ApiError:
    """Somebody else's mailbox in the path."""
    return ApiError(403, "forbidden", f"Delegation denied for {address}", "PERMISSION_DENIED")


def rate_limited(code: int, reason: str, message: str, retry_after_seconds: int | None = None) -> ApiError:
    """Too many units; ``code`` is 403 or 429."""
    return ApiError(
        code,
        reason,
        message,
        "RESOURCE_EXHAUSTED",
        domain="usageLimits",
        retry_after_seconds=retry_after_seconds,
    )


def server_error(code: int) -> ApiError:
    """500 or 503, which mean: try again."""
    if code == 503:
        return ApiError(503, "backendError", "The service is currently unavailable.", "UNAVAILABLE")
    return ApiError(code, "backendError", "Internal error encountered.", "INTERNAL")
