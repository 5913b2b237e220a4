"""The Directory API's lists: the emulated mailboxes of the one customer there is, and groups of them."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from devstack.gmail.errors import ApiError, invalid_argument, not_found
from devstack.gmail.paging import make_token, page_size, read_token
from devstack.gmail.store import Mailbox

_ORG_UNIT = re.compile(r"""orgUnitPath\s*[=:]\s*(?:'([^']*)'|"([^"]*)"|(\S+))""")


def list_users(mailboxes: Iterable[Mailbox], query: Mapping[str, str]) -> dict[str, Any]:
    """users.list, ordered by address. ``query`` knows orgUnitPath (which includes the units below) and email.

    Raises ApiError 400 without customer or domain, as the real one does.
    """
    if "customer" not in query and "domain" not in query:
        raise ApiError(400, "badRequest", "Bad Request", "INVALID_ARGUMENT")
    wanted = query.get("query", "")
    found = sorted(
        (box for box in mailboxes if _matches(box, wanted, query.get("domain"))), key=lambda box: box.address
    )
    request = ["users.list", wanted, query.get("domain")]
    size = page_size(query.get("maxResults"))
    if "pageToken" in query:
        after = read_token(query["pageToken"], request)[0]
        found = [box for box in found if box.address > after]
    page = found[:size]
    answer: dict[str, Any] = {"kind": "admin#directory#users", "users": [_user(box) for box in page]}
    if len(found) > size:
        answer["nextPageToken"] = make_token([page[-1].address], request)
    return answer


def list_members(groups: Mapping[str, Iterable[str]], group: str, query: Mapping[str, str]) -> dict[str, Any]:
    """members.list, ordered by address. Raises ApiError 404 for a group nobody made."""
    if group not in groups:
        raise not_found()
    request = ["members.list", group]
    after = read_token(query["pageToken"], request)[0] if "pageToken" in query else ""
    found = [address for address in sorted(groups[group]) if address > after]
    size = page_size(query.get("maxResults"))
    members = [
        {"kind": "admin#directory#member", "id": _user_id(address), "email": address, "type": "USER"}
        for address in found[:size]
    ]
    answer: dict[str, Any] = {"kind": "admin#directory#members", "members": members}
    if len(found) > size:
        answer["nextPageToken"] = make_token([found[size - 1]], request)
    return answer


def _user_id(address: str) -> str:
    return str(10**20 + int(hashlib.sha256(address.encode()).hexdigest()[:16], 16))


def _matches(mailbox: Mailbox, query: str, domain: str | None) -> bool:
    if domain is not None and not mailbox.address.lower().endswith("@" + domain.lower()):
        return False
    if not query.strip():
        return True
    if unit := _ORG_UNIT.fullmatch(query.strip()):
        path = (unit[1] or unit[2] or unit[3] or "/").rstrip("/")
        return mailbox.org_unit_path == path or mailbox.org_unit_path.startswith(path + "/")
    field, separator, value = query.strip().partition(":")
    if separator and field == "email":
        return mailbox.address.lower().startswith(value.strip("'\"*").lower())
    raise invalid_argument("Invalid Input: query")


def _user(mailbox: Mailbox) -> dict[str, Any]:
    local_part = mailbox.address.partition("@")[0]
    given, _, family = local_part.replace("_", ".").partition(".")
    return {
        "kind": "admin#directory#user",
        "id": _user_id(mailbox.address),
        "primaryEmail": mailbox.address,
        "name": {
            "givenName": given.title(),
            "familyName": family.title(),
            "fullName": f"{given} {family}".strip().title(),
        },
        "isAdmin": False,
        "suspended": False,
        "archived": False,
        "isMailboxSetup": True,
        "orgUnitPath": mailbox.org_unit_path,
        "customerId": "C00000000",
    }
