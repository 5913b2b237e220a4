"""Searches on a real Elasticsearch: conditions, access, copies, pages; docs/ELASTICSEARCH.md's queries."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.elasticsearch import Index
from connectors.elasticsearch.vectors import Vectors
from connectors.encoder import HashEncoder
from connectors.errors import ConfigurationError
from schemas import mapping
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    LabelsRegister,
    MessageContent,
    PartReference,
    Segment,
    content_version,
)
from search.access import Access
from search.conditions import Clause
from search.cursors import CursorError
from search.hits import Question
from search.query import parse
from search.results import Mode, Results
from search.retrieval import Retrieval
from search.suggestions import suggest
from streams.index import Indexer
from tests.standins import NoLetters, records_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ELASTICSEARCH.md").read_text()
DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01


def mail(
    mailbox_id: str,
    message_id: str,
    subject: str,
    text: str,
    *labels: str,
    files: Mapping[str, str] | None = None,
    rfc: str | None = None,
    sender: str = "Anna Berg <anna@example.com>",
) -> list[AnyRegister]:
    owner = {"mailbox_id": mailbox_id, "message_id": message_id}
    names = list(files or {})
    parts = tuple(
        PartReference(part_path=str(number), filename=name, content_type="application/pdf")
        for number, name in enumerate(names, start=2)
    )
    content = MessageContent(
        rfc_message_id=rfc or f"<{mailbox_id}.{message_id}@example.com>",
        subject=subject,
        sender=sender,
        to=("bob@example.org",),
        sent_at=START + int(re.sub(r"\D", "", message_id)) * DAY,
        size_bytes=1_000 + 100_000 * len(names),
        text=text,
        parts=parts,
    )
    attached = [
        ContentRegister(
            **owner,
            part_path=str(number),
            version=content_version(1, Outcome.TEXT, name),
            attachment=AttachmentContent(
                filename=name,
                content_type="application/pdf",
                outcome=Outcome.TEXT,
                segments=(Segment(text=(files or {})[name], page=3),),
            ),
        )
        for number, name in enumerate(names, start=2)
    ]
    return [
        LabelsRegister(**owner, epoch=1, history_id=1, label_ids=labels or ("INBOX",)),
        ContentRegister(**owner, version=content_version(1, Outcome.TEXT, text), message=content),
        *attached,
    ]


MAILS = [
    *mail("a", "m1", "Quay repairs", "The harbour wall is cracked", files={"plan.pdf": "granite blocks"}),
    *mail("a", "m2", "Contract", "This is only a draft", files={"contract.pdf": "penalty for late delivery"}),
    *mail(
        "a", "m3", "Contract signed", "final wording", files={"contract-2.pdf": "penalty for late delivery"}
    ),
    *mail("a", "m4", "Lunch", "soup with lentils", sender="Rosa <rosa@kitchen.example>"),
    *mail("a", "m5", "You won", "a prize of lentils", "SPAM"),
    *mail("a", "m6", "Circular", "the gate is closed on friday", rfc="<circular@example.com>"),
    *mail("b", "m6", "Circular", "the gate is closed on friday", rfc="<circular@example.com>"),
    *mail("b", "m7", "Secret of b", "lentils and granite, privately", files={"secret.pdf": "late delivery"}),
    *[each for n in range(10, 25) for each in mail("a", f"m{n}", f"Report {n}", f"weekly figures number{n}")],
]
BOTH, ONLY_A = Access.only(["a", "b"]), Access.only(["a"])


@pytest.fixture
async def index(index: Index) -> Index:
    await Indexer(index, HashEncoder(), NoLetters(), max_chunks=100).handle(records_of(MAILS))  # type: ignore[arg-type]
    await index.refresh()
    return index


async def search(index: Index, text: str, access: Access = ONLY_A, **options: Any) -> Results:
    return await Retrieval(index, HashEncoder()).search(parse(text), access, **options)


async def found(index: Index, text: str, access: Access = ONLY_A, **options: Any) -> list[str]:
    options = {"mode": Mode.KEYWORD, **options}
    return [hit.message_id for hit in (await search(index, text, access, **options)).hits]


async def test_conditions_hold_for_messages_not_for_documents(index: Index) -> None:
    assert set(await found(index, '"late delivery"')) == {"m2", "m3"}
    assert await found(index, '"late delivery" -draft') == ["m3"]
    assert await found(index, "-draft filename:contract") == ["m3"]
    assert set(await found(index, "filename:pdf -filename:contract")) == {"m1"}
    assert set(await found(index, "wording filename:pdf")) == {"m3"}
    assert await found(index, '(soup OR "harbour wall") from:anna') == ["m1"]
    assert await found(index, "lentils AND soup") == ["m4"]
    assert await found(index, "type:pdf cracked") == ["m1"]
    assert set(await found(index, "larger:50K penalty")) == {"m2", "m3"}
    assert "m1" not in await found(index, "-has:attachment", limit=50)
    assert await found(index, "from:kitchen.example") == ["m4"]
    assert await found(index, "from:kitch") == []
    assert await found(index, "rfc822msgid:circular@example.com") == ["m6"]
    assert await found(index, "after:2026/01/05 before:2026-01-06") == ["m4"]


async def test_spam_is_found_by_who_asks_for_it(index: Index) -> None:
    assert await found(index, "lentils") == ["m4"]
    assert await found(index, "lentils in:spam") == ["m5"]
    assert set(await found(index, "lentils in:anywhere")) == {"m4", "m5"}


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_match_says_where_it_is(index: Index, mode: Mode) -> None:
    [hit, *_] = (await search(index, "granite blocks", mode=mode)).hits
    assert (hit.message_id, hit.matches[0].where) == ("m1", "plan.pdf, page 3")
    assert "granite" in hit.matches[0].snippet


async def test_meaning_alone_ranks_by_the_vectors_as_they_were_computed(index: Index) -> None:
    [asked] = HashEncoder().encode(["granite blocks for the harbour wall"])
    question = Question([], asked.tolist())

    async def furthest_off(*, alone: bool) -> float:
        everything: Clause = {"match_all": {}}
        found = await Retrieval(index, HashEncoder())._by_meaning(question, everything, 20, alone=alone)
        stored = await Vectors(index._client, mapping.index_name()).read([one.document_id for one in found])
        exact = {document: (1 + vector @ asked) / 2 for (document, _), vector in stored.items()}
        assert len(exact) == len(found) == 20
        return float(max(abs(one.score - exact[one.document_id]) for one in found))

    assert await furthest_off(alone=True) < 1e-6 < 1e-4 < await furthest_off(alone=False)


async def test_copies_are_one_hit_and_only_where_both_may_be_read(index: Index) -> None:
    [hit] = (await search(index, "gate", BOTH, mode=Mode.KEYWORD)).hits
    assert {(hit.mailbox_id, hit.message_id), *hit.copies} == {("a", "m6"), ("b", "m6")}
    [hit] = (await search(index, "gate", mode=Mode.KEYWORD)).hits
    assert hit.copies == []


@pytest.mark.parametrize("text", ["report", "subject:report"], ids=["ranked", "newest first"])
async def test_pages_follow_one_another_without_gap_or_repeat(index: Index, text: str) -> None:
    seen: list[str] = []
    cursor = None
    for _ in range(10):
        # Without words it is a list by date, with words a ranking.
        asked = "from:anna after:2026/01/10 -harbour" if text.startswith("subject") else text
        page = await search(index, asked, mode=Mode.KEYWORD, limit=4, cursor=cursor)
        seen += [hit.message_id for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(f"m{n}" for n in range(10, 25))
    if text.startswith("subject"):
        assert seen == [f"m{n}" for n in reversed(range(10, 25))]


@pytest.mark.parametrize("mode", [Mode.KEYWORD, Mode.HYBRID])
async def test_pages_go_deeper_than_the_first_lists(index: Index, mode: Mode) -> None:
    deep = [each for n in range(130) for each in mail("a", f"p{n}", f"Almanac {n}", "tides " * (n % 7 + 1))]
    await Indexer(index, HashEncoder(), NoLetters(), max_chunks=100).handle(records_of(deep))  # type: ignore[arg-type]
    await index.refresh()
    seen: list[str] = []
    cursor = None
    for _ in range(30):
        page = await search(index, "almanac tides", mode=mode, limit=20, cursor=cursor)
        seen += [hit.message_id for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            break
    assert cursor is None
    assert len(seen) == len(set(seen))
    assert set(seen) >= {f"p{n}" for n in range(130)}


async def test_cursors_of_others_are_refused(index: Index) -> None:
    page = await search(index, "report", mode=Mode.KEYWORD, limit=2)
    for text, cursor in (
        ("reports", page.cursor),
        ("report", "x"),
        ("report", "W10="),
        ("report", "bnVsbA=="),
    ):
        with pytest.raises(CursorError):
            await search(index, text, mode=Mode.KEYWORD, cursor=cursor)


async def test_a_typo_finds_what_was_meant_among_what_may_be_seen(index: Index) -> None:
    results = await search(index, "harbuor", mode=Mode.KEYWORD)
    assert results.showing_results_for == "harbour"
    assert [hit.message_id for hit in results.hits] == ["m1"]
    assert (await search(index, "prvately", mode=Mode.KEYWORD)).showing_results_for is None
    assert (await search(index, "prvately", BOTH, mode=Mode.KEYWORD)).showing_results_for == "privately"
    assert (await search(index, "zzzzzz", mode=Mode.KEYWORD)).hits == []


async def test_suggestions_come_from_what_may_be_seen(index: Index) -> None:
    async def shown(beginning: str, access: Access) -> list[str]:
        return [suggestion.query for suggestion in await suggest(index, beginning, access)]

    assert await shown("ROS", ONLY_A) == ["from:rosa@kitchen.example"]
    assert await shown("contr", ONLY_A) == ["filename:contract-2.pdf", "filename:contract.pdf"]
    assert await shown("secr", ONLY_A) == []
    assert await shown("secr", BOTH) == ["filename:secret.pdf"]
    for strange in ('.*"[', "\\", "((", "@&~<1-9>", " "):
        assert await shown(strange, ONLY_A) == []


async def test_meaning_without_an_encoder_is_said(index: Index) -> None:
    with pytest.raises(ConfigurationError, match="encoder"):
        await Retrieval(index, None).search(parse("x"), BOTH)


class Watched:
    """The index, with every request kept."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.requests: list[Mapping[str, Any]] = []

    async def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append(body)
        return await self._index.search(body)


async def test_every_request_carries_the_callers_mailboxes(index: Index) -> None:
    """Whatever is asked: each request is filtered, kNN within its own filter, and nothing of b comes back."""
    watched = Watched(index)
    retrieval = Retrieval(watched, HashEncoder())  # type: ignore[arg-type]
    asked = [
        *("lentils", "granite privately", '"late delivery"', "-draft filename:pdf", "secret OR -lunch"),
        *("in:anywhere", "rfc822msgid:b.m7@example.com", "privatly", "filename:secret.pdf", "from:anna"),
        *("-(from:rosa AND -has:attachment)", "subject:secret", "larger:1", "-label:INBOX"),
    ]
    wanted = {"terms": {"mailbox_id": ["a"]}}
    hits = 0
    for text in asked:
        for mode in Mode:
            results = await retrieval.search(parse(text), ONLY_A, mode=mode, limit=50)
            assert {hit.mailbox_id for hit in results.hits} <= {"a"}
            assert "ecret" not in repr(results)
            hits += len(results.hits)
    assert hits > 50
    assert len(watched.requests) > 80
    for request in watched.requests:
        filters = [request["query"]] if "query" in request else []
        filters += [request["knn"]["filter"]] if "knn" in request else []
        assert filters
        for clause in filters:
            assert _is_bound(clause, wanted), request


def _is_bound(clause: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether ``wanted`` is required by a clause: in its filters, or in a filter of those."""
    filters = clause.get("bool", {}).get("filter", [])
    return wanted in filters or any(_is_bound(each, wanted) for each in filters)


async def test_who_may_read_no_mailbox_finds_nothing(index: Index) -> None:
    for mode in Mode:
        assert (await search(index, "lentils", Access.only([]), mode=mode)).hits == []


QUERIES = re.findall(r"### ([^\n]+)\n.*?```json\n(.*?)```", DOCUMENT, re.DOTALL)


async def ask(url: str, path: str, body: Any) -> Any:
    async with aiohttp.ClientSession(url) as session, session.post(path, json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


@pytest.mark.parametrize(("title", "text"), QUERIES, ids=[title for title, _ in QUERIES])
async def test_the_documents_queries_run(index: Index, elasticsearch_url: str, title: str, text: str) -> None:
    body = json.loads(text)
    if "knn" in body:
        [vector] = HashEncoder().encode(["late delivery"])
        body["knn"]["query_vector"] = vector.tolist()
    answer = await ask(elasticsearch_url, f"/{mapping.READ_ALIAS}/_search", body)
    assert not answer["timed_out"]
    if title.startswith("How many"):
        assert answer["aggregations"]["senders"]["buckets"][0]["key"].startswith("Anna")
    elif title.startswith("What could not"):
        assert answer["hits"]["hits"] == []
    else:
        assert answer["hits"]["hits"]


def test_there_are_six_queries() -> None:
    assert len(QUERIES) == 6


async def test_the_alias_of_a_mailbox_shows_that_mailbox_alone(
    index: Index, elasticsearch_url: str, unique_name: str
) -> None:
    text = re.search(r"```json alias\n(.*?)```", DOCUMENT, re.DOTALL)
    assert text is not None
    call = text[1].replace("mail-v000001", mapping.index_name()).replace("mail-read", mapping.READ_ALIAS)
    await ask(elasticsearch_url, "/_aliases", json.loads(call.replace("MAILBOX", "a")))
    answer = await ask(
        elasticsearch_url,
        f"/{mapping.READ_ALIAS}-a/_search",
        {"size": 100, "query": {"match_all": {}}, "_source": ["mailbox_id"]},
    )
    found_in = [hit["_source"]["mailbox_id"] for hit in answer["hits"]["hits"]]
    assert len(found_in) > 20
    assert set(found_in) == {"a"}
