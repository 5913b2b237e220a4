"""What a caller may try against the index behind the search API: each is an answer or a 4xx, and soon."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from connectors.elasticsearch import Index
from connectors.errors import ConfigurationError
from devstack.stack import Stack
from search.conditions import MAX_LEAVES, MAX_ON_PARTS, MAX_VALUE_CHARACTERS
from search.cursors import MAX_CANDIDATES, written_cursor
from search.query import MAX_DEPTH, parse
from search.results import Mode
from search.retrieval import MAX_WORDS
from search.suggestions import MAX_CHARACTERS as MAX_BEGINNING_CHARACTERS
from tests.access_fuzz import MARKER, api
from tests.pipelines import emptied

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

# Far more than any of these takes (tenths of a second), far less than one that explodes: then it is a 504.
TIMEOUT_SECONDS = 30.0
DSL = (
    '{"query":{"match_all":{}}}',
    '"}}],"must_not":[]}},"query":{"match_all":{}}',
    'x"}}},"script_fields":{"a":{"script":"1+1"}},"q":{"',
    "_exists_:live OR *:*",
    "script:ctx._source",
    "doc['mailbox_id'].value",
    "live:false",
    "mailbox_id:*",
)


class Kept:
    """The requests that reach the server."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.bodies: list[Any] = []
        search = Index.search

        async def kept(index: Index, body: Any) -> Any:
            self.bodies.append(body)
            return await search(index, body)

        patch.setattr(Index, "search", kept)


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    return emptied(stack).elasticsearch_url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(address: str) -> AsyncIterator[tuple[httpx.AsyncClient, Kept]]:
    with pytest.MonkeyPatch.context() as patch:
        kept = Kept(patch)
        async with api(address, timeout_seconds=TIMEOUT_SECONDS) as (client, _, _):
            yield client, kept


async def _status(client: httpx.AsyncClient, query: str, path: str = "search", **parameters: Any) -> int:
    """How a query is answered: in time, and never by an error of the server's."""
    answer = await client.get(f"/api/v1/{path}", params={"q": query, **parameters})
    assert answer.status_code in (200, 400, 422), (query[:100], answer.text[:500])
    return answer.status_code


def _keys(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set(node).union(*map(_keys, node.values()))
    return set().union(*map(_keys, node)) if isinstance(node, list | tuple) else set()


async def test_no_value_becomes_a_part_of_the_servers_language(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    """Whatever a query says, the server is asked with the same few words of its language; none of scripts."""
    client, kept = asked
    operators = ("", "from:", "to:", "subject:", "filename:", "type:", "rfc822msgid:", "-", "OR x ")
    await _status(client, "harbour from:x filename:x type:x subject:x rfc822msgid:x -x (x OR subject:x)")
    await _status(client, "from:x")
    known = _keys(kept.bodies)
    kept.bodies.clear()
    for value in DSL:
        for operator in operators:
            quoted = "".join(character for character in value if character != '"')
            await _status(client, f"{operator}{value}")
            await _status(client, f'{operator}"{quoted}"', "facets")
        await _status(client, value, "suggestions")
    assert len(kept.bodies) > 100
    facets = {
        "aggs",
        "sender",
        "label",
        "labels",
        "type",
        "month",
        "messages",
        "date_histogram",
        "cardinality",
    }
    new = _keys(kept.bodies) - known - facets
    assert not [word for word in new if "script" in word or "query_string" in word or "runtime" in word], new
    assert not new & {"match_all", "script", "source", "simple_query_string", "template", "params"}, new


async def test_patterns_do_not_explode(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    client, kept = asked
    longest = MAX_VALUE_CHARACTERS
    for operator in ("from", "to", "cc", "filename", "type"):
        for value in (
            "(.*)*" * 50,
            ".*a" * 80,
            "?" * longest,
            "*?" * (longest // 2),
            "a*" * (longest // 2),
            "aA" * (longest // 2),
            "\\" * longest,
            "~" * longest,
            "[a-z]{1,1000}",
            "<1-99999999>",
            "/" * longest,
            "a/" + "*?" * 100,
            "*/*" + "*" * 200,
            "\U0001f642" * longest,
        ):
            assert await _status(client, f'{operator}:"{value}"') == 200, (operator, value)
        assert await _status(client, f"{operator}:{'a' * (longest + 1)}") == 400
    for beginning in (".*" * 90, "(a|b)*" * 30, "aA" * 90, "~" * 190, "\U0001f642" * 64):
        assert await _status(client, beginning, "suggestions") == 200
        for field in kept.bodies.pop()["aggs"].values():
            # A letter is two in brackets, and what is no letter is escaped; before it stands a border.
            assert len(field["terms"]["include"]) <= 4 * MAX_BEGINNING_CHARACTERS + 20


async def test_a_wildcard_of_the_callers_is_no_wildcard(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    client, _ = asked

    async def found(query: str) -> int:
        answer = await client.get("/api/v1/search", params={"q": query, "mode": "keyword"})
        return len(answer.json()["results"])

    assert await found("type:application/pdf") == await found("type:application/*") == 20
    for query in ("type:app*/pdf", "type:*/*", "type:*", "filename:*", "from:*", 'type:"application/p?f"'):
        assert await found(query) == 0, query


async def test_a_label_of_another_mailbox_is_as_unknown_as_none(
    asked: tuple[httpx.AsyncClient, Kept],
) -> None:
    client, _ = asked
    assert await _status(client, 'label:"anna label"') == 200
    for name in (f"{MARKER} label", f"Label_{MARKER}", "nobody's label"):
        assert await _status(client, f'label:"{name}"') == 400, name


async def test_what_costs_too_much_is_refused(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    client, kept = asked
    kept.bodies.clear()
    assert await _status(client, " ".join(f"-w{number}" for number in range(MAX_ON_PARTS + 1))) == 400
    assert await _status(client, " OR ".join(f'"p{number}"' for number in range(300))) == 400
    assert await _status(client, " ".join(f"from:{number}" for number in range(MAX_LEAVES + 1))) == 400
    assert kept.bodies == [], "the server was not asked"
    assert await _status(client, " ".join(f"-w{number}" for number in range(MAX_ON_PARTS))) == 200
    assert await _status(client, " ".join(f"from:{number}" for number in range(MAX_LEAVES))) == 200
    kept.bodies.clear()
    assert await _status(client, " ".join(f"w{number}" for number in range(700))) == 200
    must = (body.get("query", {}).get("bool", {}).get("must") for body in kept.bodies)
    [matching] = [clauses for clauses in must if clauses]
    assert len(matching[0]["combined_fields"]["query"].split()) == MAX_WORDS


async def test_the_deepest_query_is_taken(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    client, _ = asked
    deepest = "label:INBOX"
    while True:
        deeper = f"-(from:a {deepest} AND (to:x OR filename:y))"
        try:
            parse(deeper)
        except Exception:  # noqa: BLE001 - deeper than may be
            break
        deepest = deeper
    for query in (deepest, "-" * MAX_DEPTH + "x", "(" * MAX_DEPTH + "a OR b" + ")" * MAX_DEPTH, _stairs()):
        assert await _status(client, query) == 200, query
        assert await _status(client, f"harbour {query}", mode="hybrid") == 200, query


def _stairs() -> str:
    """Two clauses a level: as deep as the server has to go."""
    query = "label:INBOX"
    for _ in range(MAX_DEPTH):
        query = f"(x AND is:unread OR {query})"
    return query if parse(query) else ""


async def test_no_page_is_deeper_than_the_server_looks(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    """Cursors as this program makes them, with places that it would not name."""
    client, kept = asked
    for text, mode in (("harbour", "hybrid"), ("harbour", "keyword"), ("in:inbox", "hybrid")):
        kept.bodies.clear()
        for position in (
            *([0], [MAX_CANDIDATES], [2 * MAX_CANDIDATES], [2 * MAX_CANDIDATES + 1], [-1], [10**9], [10**40]),
            *(
                [0, "x"],
                [-(2**63), ""],
                [10**14, "x"],
                [-(10**14), "x"],
                [2**63, "x"],
                [-(10**30), "x"],
                [True, "x"],
                [1.5, "x"],
                ["0", "x"],
            ),
            *([None, "x"], [0, None], [0, {"script": "1"}], [[0], "x"], [0, "x", "y"], [], [{"a": 1}]),
        ):
            cursor = written_cursor(position, parse(text), Mode(mode))
            await _status(client, text, mode=mode, cursor=cursor, limit=100)
        for body in kept.bodies:
            assert body.get("size", 0) <= MAX_CANDIDATES
            assert "from" not in body
            assert body.get("knn", {}).get("num_candidates", 0) <= 4 * MAX_CANDIDATES
    assert await _status(client, "harbour", limit=101) == 422
    assert await _status(client, "a" * 4_001) == 422


async def test_a_parameter_that_is_none_is_refused(asked: tuple[httpx.AsyncClient, Kept]) -> None:
    """Who thinks that he has narrowed a search must not see more than he asked for."""
    client, kept = asked
    kept.bodies.clear()
    for path in ("search", "facets", "suggestions"):
        answer = await client.get(f"/api/v1/{path}", params={"q": "harbour", "mailbox": "anna@example.com"})
        assert answer.status_code == 422
        assert "mailbox: no such parameter; there is q" in answer.json()["error"]["message"]
    assert not kept.bodies


async def test_what_the_server_refuses_is_told_without_what_was_asked(
    asked: tuple[httpx.AsyncClient, Kept], address: str
) -> None:
    del asked  # there is an index
    async with Index.open(address) as index:
        with pytest.raises(ConfigurationError, match="answered 400") as caught:
            await index.search({"query": {"match": {"sent_at": "xylophone"}}})
    assert "xylophone" not in str(caught.value)
