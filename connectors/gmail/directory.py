"""A Workspace domain's users, through the Directory API, as an administrator sees them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.gmail.auth import credentials_from
from connectors.gmail.client import google_service
from connectors.gmail.mapped import mapped

USERS_SCOPE = "https://www.googleapis.com/auth/admin.directory.user.readonly"
MEMBERS_SCOPE = "https://www.googleapis.com/auth/admin.directory.group.member.readonly"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which users are wanted. Organizational units include those below them; exclusion wins."""

    include_units: tuple[str, ...] = ()
    exclude_units: tuple[str, ...] = ()
    include_groups: tuple[str, ...] = ()
    exclude_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A user of the domain; ``left_out`` says why he is not wanted, None when he is."""

    address: str
    left_out: str | None


class Directory:
    """The domain of a service account that acts for ``admin``. ``endpoint`` None is Google's own."""

    def __init__(self, info: dict[str, Any], admin: str, endpoint: str | None, *, with_groups: bool) -> None:
        scopes = (USERS_SCOPE, MEMBERS_SCOPE) if with_groups else (USERS_SCOPE,)
        credentials = credentials_from(info, admin, scopes)
        self._service = google_service("admin", "directory_v1", endpoint, credentials=credentials)

    def users(self, domain: str, choice: Choice) -> list[User]:
        """Every user of the domain, by address. Raises GmailError and what is below it."""
        included = {address for group in choice.include_groups for address in self._members(group)}
        excluded = {address for group in choice.exclude_groups for address in self._members(group)}
        found = []
        for user in self._pages(self._service.users(), "users", domain=domain, orderBy="email"):
            address = str(user["primaryEmail"]).lower()
            found.append(User(address, _left_out(user, address, choice, included, excluded)))
        return found

    def _members(self, group: str) -> Iterator[str]:
        members = self._pages(
            self._service.members(), "members", groupKey=group, includeDerivedMembership=True
        )
        return (str(member["email"]).lower() for member in members if "email" in member)

    def _pages(self, collection: Any, field: str, **query: Any) -> Iterator[dict[str, Any]]:
        request = collection.list(maxResults=200, **query)
        while request is not None:
            page = mapped(request.execute)
            yield from page.get(field, ())
            request = collection.list_next(request, page)


def _left_out(
    user: dict[str, Any], address: str, choice: Choice, included: set[str], excluded: set[str]
) -> str | None:
    unit = str(user.get("orgUnitPath", "/"))
    if user.get("suspended") or user.get("archived"):
        return "suspended"
    if user.get("isMailboxSetup") is False:
        return "no mailbox"
    if any(_below(unit, other) for other in choice.exclude_units):
        return f"in {unit}"
    if address in excluded:
        return "in an excluded group"
    wanted_everywhere = not choice.include_units and not choice.include_groups
    if wanted_everywhere or address in included or any(_below(unit, o) for o in choice.include_units):
        return None
    return "not included"


def _below(unit: str, other: str) -> bool:
    return unit == other or unit.startswith(other.rstrip("/") + "/")
