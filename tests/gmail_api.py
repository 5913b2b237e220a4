"""What the tests of the emulated Gmail share: clients, mail, and Google's own description of every answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import googleapiclient
import httplib2
import pytest
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from jsonschema import Draft202012Validator

from devstack.gmail.server import GmailEmulator

ANNA, BOB = "anna@example.com", "bob@sales.example.com"
READONLY = ["https://www.googleapis.com/auth/gmail.readonly"]
DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
MAIL = [
    b"Subject: =?utf-8?B?w6k=?=\nDate: Mon, 1 Jan 2024 10:00:00 +0000\n\nplain\n",
    b"Subject: papers\nDate: Tue, 2 Jan 2024 10:00:00 +0000\nContent-Type: multipart/mixed; boundary=x\n\n"
    b"--x\n\nsee below\n--x\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n"
    b"JVBERi0=\n--x\nContent-Type: message/rfc822\n\nSubject: inner\n\ninside\n--x--\n",
    b"no header, no date",
    b"Content-Type: multipart/mixed; boundary=y\n\nnever begins",
    b"Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n*broken*",
    b"",
]


def schemas(document: str) -> dict[str, Any]:
    """The schemas of a discovery document as JSON Schema: what is not described may not come."""
    described = json.loads((DOCUMENTS / document).read_text(encoding="utf-8"))["schemas"]
    return {name: _schema(schema) for name, schema in described.items()}


def _schema(described: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in described:
        return {"$ref": f"#/$defs/{described['$ref']}"}
    if described["type"] == "any":
        return {}
    if described["type"] == "array":
        return {"type": "array", "items": _schema(described["items"])}
    if described["type"] == "object":
        properties = {name: _schema(value) for name, value in described.get("properties", {}).items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    schema: dict[str, Any] = {"type": described["type"]}
    if "enum" in described:
        schema["enum"] = described["enum"]
    if described["type"] == "string" and described.get("format") in {"uint64", "int64"}:
        schema["pattern"] = "^-?[0-9]+$"
    if described.get("format") == "byte":
        schema["pattern"] = "^[A-Za-z0-9_-]*={0,2}$"
    return schema


GMAIL = schemas("gmail.v1.json")
DIRECTORY = schemas("admin.directory_v1.json")
PUBSUB = schemas("pubsub.v1.json")


def valid(answer: Any, name: str, defs: dict[str, Any] = GMAIL) -> Any:
    """The answer, once it has proved to be what Google describes under ``name``."""
    # The description is Google's: checking it anew for every answer would take most of the time.
    Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": defs}).validate(answer)
    return answer


def as_user(emulator: GmailEmulator, address: str = ANNA, scopes: list[str] | None = None) -> Credentials:
    info = emulator.client_credentials(address)
    return Credentials(None, scopes=scopes or READONLY, **info)  # type: ignore[no-untyped-call]


def as_service(emulator: GmailEmulator, subject: str | None, scopes: list[str]) -> Any:
    info = emulator.service_account_info()
    return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        info, scopes=scopes, subject=subject
    )


def users(emulator: GmailEmulator, credentials: Any = None) -> Any:
    service = build(
        "gmail",
        "v1",
        credentials=credentials or as_user(emulator),
        client_options={"api_endpoint": emulator.url},
        static_discovery=True,
    )
    return service.users()


def control(
    emulator: GmailEmulator, method: str, path: str, body: bytes | dict[str, Any] | list[Any] = b""
) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response, answer = httplib2.Http().request(emulator.url + "/_control" + path, method, content)
    assert response.status == 200, answer
    return json.loads(answer)


def refused(request: Any) -> tuple[int, str]:
    """Status and reason of a request that must fail, after a look at the error's form."""
    with pytest.raises(HttpError) as caught:
        request.execute()
    error = json.loads(caught.value.content)["error"]
    assert error["code"] == caught.value.resp.status
    assert {"message", "domain", "reason"} == set(error["errors"][0])
    assert error["status"].isupper()
    return error["code"], error["errors"][0]["reason"]


def every_page(method: Callable[..., Any], field: str, schema: str, **parameters: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = valid(method(userId="me", pageToken=token, **parameters).execute(), schema)
        found += page.get(field, [])
        token = page.get("nextPageToken")
        if token is None:
            return found


def refreshed(credentials: Credentials) -> Credentials:
    credentials.refresh(Request())  # type: ignore[no-untyped-call]
    return credentials
