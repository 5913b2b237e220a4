"""The index worker's merge on a real Elasticsearch: any order of registers, the same documents."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.elasticsearch import Index, Write
from connectors.elasticsearch.vectors import Vectors
from connectors.encoder import HashEncoder
from connectors.errors import ConfigurationError, ConflictError
from connectors.kafka import Record
from schemas import mapping, topics
from schemas.identity import document_id
from schemas.outcomes import Outcome
from schemas.registers import AnyRegister, AttachmentContent, Segment, content_version
from search.access import Access
from search.query import parse
from search.results import Hit, Mode
from search.retrieval import Retrieval
from streams.index import Indexer
from tests.registers import a_deletion, a_label, a_message, a_part, some_labels
from tests.standins import Letters, records_of


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def indexer(index: Index, letters: Letters) -> Indexer:
    return Indexer(index, HashEncoder(), letters, max_chunks=100)  # type: ignore[arg-type]


async def _documents(index: Index) -> dict[str, dict[str, Any]]:
    ids = [document_id("box", "m1"), document_id("box", "m1", "2")]
    await index.refresh()  # what was not refreshed yet is answered with vectors as they were sent
    stored = await index.read(ids, ["*"])
    return {
        document: {name: value for name, value in stored[document].source.items() if name != "indexed_at"}
        for document in ids
        if document in stored
    }


async def _found(index: Index, word: str) -> list[Hit]:
    found = await Retrieval(index, None).search(parse(word), Access.everything(), mode=Mode.KEYWORD)
    return found.hits


async def _vectors(index: Index, text: str) -> list[str]:
    await index.refresh()
    [vector] = HashEncoder().encode([text])
    answer = await index.search(
        {"knn": {"field": "chunks.vector", "query_vector": vector.tolist(), "k": 5, "num_candidates": 20}}
    )
    return [hit["_id"] for hit in answer["hits"]["hits"]]


async def test_a_message_and_its_attachment_become_documents(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane on page three")]))
    message, part = (await _documents(index)).values()
    assert (message["kind"], message["live"], message["label_ids"]) == ("message", True, ["INBOX"])
    assert (part["kind"], part["live"], part["subject"]) == ("attachment", True, "Quay repairs")
    assert part["label_ids"] == ["INBOX"]
    assert part["chunks"][0]["page"] == 3


async def test_any_order_in_any_batches_gives_the_same_documents(
    index: Index, indexer: Indexer, letters: Letters
) -> None:
    registers: list[AnyRegister] = [
        some_labels(5, "INBOX", "UNREAD"),
        a_message(),
        a_part(outcome=Outcome.PENDING),
        a_part("crane"),
        a_label(4, "STARRED", present=True),
        a_label(7, "UNREAD", present=False),
        a_label(8, "Label_1", present=True),
        a_label(9, "INBOX", present=True),  # says nothing new, and yet as of when is known
    ]
    await indexer.handle(records_of(registers))
    expected = await _documents(index)
    assert expected[document_id("box", "m1")]["label_ids"] == ["INBOX", "Label_1"]
    seen = 0
    for seed in range(8):
        # Another message of the same contents: only the ids differ.
        other = f"other-{seed}"
        shuffled: list[AnyRegister] = [
            register.model_copy(update={"message_id": other}) for register in [*registers, *registers[:3]]
        ]
        random.Random(seed).shuffle(shuffled)
        for record in records_of(shuffled):
            await indexer.handle([record])
        ids = [document_id("box", other), document_id("box", other, "2")]
        await index.refresh()
        stored = await index.read(ids, ["*"])
        for mine, theirs in zip(ids, expected.values(), strict=True):
            varying = {"indexed_at", "message_id", "message_key", "registers"}
            got = {name: value for name, value in stored[mine].source.items() if name not in varying}
            assert got == {name: value for name, value in theirs.items() if name not in varying}
            seen += 1
    assert seen == 16
    assert not letters.written


async def test_a_label_change_keeps_the_vectors(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")]))
    for number in range(100):
        await indexer.handle(records_of([a_label(10 + number, "STARRED", present=number % 2 == 1)]))
    assert document_id("box", "m1", "2") in await _vectors(index, "crane")
    for document in (await _documents(index)).values():
        assert document["label_ids"] == ["INBOX", "STARRED"]


async def test_a_deletion_empties_the_message_and_its_parts(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")]))
    await indexer.handle(records_of([a_deletion(9)]))
    for document in (await _documents(index)).values():
        assert document["live"] is False
        assert not {"text", "subject", "sender", "filename", "chunks"} & document.keys()


async def test_a_late_attachment_of_a_deleted_message_stays_deleted(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    await indexer.handle(records_of([a_deletion(9)]))
    await indexer.handle(records_of([a_part("crane"), a_message()]))
    assert all(document["live"] is False for document in (await _documents(index)).values())
    assert document_id("box", "m1", "2") not in await _vectors(index, "crane")


async def test_a_message_seen_after_its_deletion_comes_back(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")]))
    await indexer.handle(records_of([a_deletion(9)]))
    await indexer.handle(records_of([some_labels(12, "INBOX"), a_message(), a_part("crane")]))
    assert [document["live"] for document in (await _documents(index)).values()] == [True, True]
    assert document_id("box", "m1", "2") in await _vectors(index, "crane")


async def test_labels_that_come_first_wait_for_the_content(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([a_label(7, "STARRED", present=True)]))
    [stub] = (await _documents(index)).values()
    assert stub["live"] is False
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    [message] = (await _documents(index)).values()
    assert (message["live"], message["label_ids"]) == (True, ["INBOX", "STARRED"])


async def test_redelivery_writes_nothing(index: Index, indexer: Indexer) -> None:
    records = records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")])
    await indexer.handle(records)
    ids = [document_id("box", "m1"), document_id("box", "m1", "2")]
    before = {document: stored.seq_no for document, stored in (await index.read(ids, ["live"])).items()}
    await indexer.handle(records)
    after = {document: stored.seq_no for document, stored in (await index.read(ids, ["live"])).items()}
    assert before == after


async def test_a_rejected_document_is_a_dead_letter_and_its_neighbours_stand(
    index: Index, indexer: Indexer, letters: Letters
) -> None:
    bad = a_message("bad")
    assert bad.message is not None
    bad = bad.model_copy(update={"message": bad.message.model_copy(update={"sent_at": 10**30})})
    await indexer.handle(
        records_of([some_labels(5, message_id="bad"), bad, some_labels(5, "INBOX"), a_message()])
    )
    assert [type(error).__name__ for _, error, _ in letters.written] == ["RejectedDocumentError"]
    assert letters.written[0][0].key == bad.key
    assert (await _documents(index))[document_id("box", "m1")]["live"] is True


async def test_a_message_whose_content_was_rejected_is_still_known(
    index: Index, indexer: Indexer, letters: Letters
) -> None:
    """Its labels and its deletion reach its attachments, and the dead letter is written once."""
    bad = a_message()
    assert bad.message is not None
    bad = bad.model_copy(update={"message": bad.message.model_copy(update={"size_bytes": 2**63})})
    await indexer.handle(records_of([some_labels(5, "INBOX"), bad, a_part("crane")]))
    assert len(letters.written) == 1
    message, part = (await _documents(index)).values()
    assert (message["live"], part["live"], part["label_ids"]) == (False, True, ["INBOX"])
    await indexer.handle(records_of([a_deletion(9)]))
    assert [document["live"] for document in (await _documents(index)).values()] == [False, False]
    assert len(letters.written) == 1


async def test_nine_megabytes_of_text_are_found_by_their_last_word(
    index: Index, indexer: Indexer, letters: Letters
) -> None:
    long = a_message("long", text="tide " * 1_800_000 + "lighthouse")
    await indexer.handle(
        records_of([some_labels(5, "INBOX"), a_message(), some_labels(5, message_id="long"), long])
    )
    assert not letters.written
    await index.refresh()
    [hit] = await _found(index, "lighthouse")
    assert hit.message_id == "long"
    [stored] = (await index.read([document_id("box", "long")], ["truncated"])).values()
    assert stored.source["truncated"] is True, "its vectors end before its text"
    assert (await _documents(index))[document_id("box", "m1")]["live"] is True


async def test_twenty_thousand_chunks_are_cut_to_what_the_index_takes(index: Index, letters: Letters) -> None:
    indexer = Indexer(index, HashEncoder(), letters, max_chunks=50_000)  # type: ignore[arg-type]
    content = AttachmentContent(
        filename="log.txt",
        content_type="text/plain",
        outcome=Outcome.TEXT,
        segments=tuple(Segment(text=f"entry{number} crane", page=number + 1) for number in range(20_000)),
    )
    many = a_part().model_copy(
        update={"attachment": content, "version": content_version(1, Outcome.TEXT, "x")}
    )
    await indexer.handle(
        records_of([some_labels(5, "INBOX"), a_message(), many, some_labels(5, message_id="m2")])
    )
    assert not letters.written
    part = (await _documents(index))[document_id("box", "m1", "2")]
    # As many as nest in one document, or half of it, and so on, where the server has too little memory.
    assert len(part["chunks"]) in {mapping.MAX_CHUNKS >> halved for halved in range(4)}
    assert part["truncated"] is True
    assert len(await index.read([document_id("box", "m2")], ["live"])) == 1
    for word in ("entry9", "entry19999"):  # with a chunk to highlight, and beyond the last one
        [hit] = await _found(index, word)
        assert [match.part_path for match in hit.matches] == ["2"]


async def test_vectors_travel_packed_where_the_server_takes_them(index: Index, indexer: Indexer) -> None:
    assert index._sink.packed_vectors, "the devstack's server is newer than 9.3"
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")]))
    assert document_id("box", "m1", "2") in await _vectors(index, "crane")
    index._sink.packed_vectors = False
    await indexer.handle(records_of([some_labels(6, message_id="m2"), a_part("winch", message_id="m2")]))
    assert document_id("box", "m2", "2") in await _vectors(index, "winch")


@pytest.mark.parametrize("in_source", [True, False], ids=["in the source", "an index from before 1.0"])
async def test_vectors_are_read_as_they_were_computed(
    index: Index, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, *, in_source: bool
) -> None:
    if not in_source:
        monkeypatch.setattr(mapping, "VECTORS_IN_SOURCE", {})
        await index._client.indices.delete(index=mapping.index_name())
        await index.ensure()
    text = "crane " * 1_500  # several pieces
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_part(text)]))
    await index.refresh()
    [hit] = (await index.search({"query": {"term": {"kind": "attachment"}}}))["hits"]["hits"]
    assert {"vector" in piece for piece in hit["_source"]["chunks"]} == {in_source}
    vectors = await Vectors(index._client, mapping.index_name()).read([hit["_id"]])
    assert len(vectors) == len({piece["text"] for piece in hit["_source"]["chunks"]}) > 1
    for (_, piece), vector in vectors.items():
        [computed] = HashEncoder().encode([piece])
        assert np.allclose(vector, computed, atol=1e-6)


async def test_an_index_from_before_gets_the_fields_that_it_lacks(
    index: Index, indexer: Indexer, letters: Letters
) -> None:
    older = mapping.mappings()
    del older["properties"]["bcc"], older["properties"]["sender_address"]
    await index._client.indices.delete(index=mapping.index_name())
    aliases = {mapping.READ_ALIAS: {}, mapping.WRITE_ALIAS: {"is_write_index": True}}
    await index._client.indices.create(index=mapping.index_name(), mappings=older, aliases=aliases)
    await index.ensure()
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    assert not letters.written
    [message] = (await _documents(index)).values()
    assert message["sender_address"] == ["anna@example.com", "example.com"]


async def test_bytes_that_are_no_register_are_a_dead_letter(indexer: Indexer, letters: Letters) -> None:
    await indexer.handle([Record(topics.DOCUMENTS.name, 0, 7, "abc/labels", b"\xff{")])
    assert [record.offset for record, _, _ in letters.written] == [7]


async def test_a_write_that_lost_the_race_is_merged_again(
    index: Index, indexer: Indexer, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker relabels the message between our read and our write."""
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message(), a_part("crane")]))
    async with Index.open(elasticsearch_url) as other_client:
        other = Indexer(other_client, HashEncoder(), Letters(), max_chunks=100)  # type: ignore[arg-type]
        read, raced = Index.read, 0

        async def racing(self: Index, ids: Sequence[str], fields: Sequence[str]) -> Any:
            nonlocal raced
            stored = await read(self, ids, fields)
            if raced < 2 and self._client is index._client:
                raced += 1
                await other.handle(records_of([a_label(20 + raced, f"Label_{raced}", present=True)]))
            return stored

        monkeypatch.setattr(Index, "read", racing)
        await indexer.handle(records_of([a_label(30, "STARRED", present=True)]))
    assert raced == 2
    monkeypatch.setattr(Index, "read", read)
    for document in (await _documents(index)).values():
        assert document["label_ids"] == ["INBOX", "Label_1", "Label_2", "STARRED"]


async def test_a_part_written_while_its_message_was_deleted_is_taken_back(
    index: Index, indexer: Indexer, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message's document does not change by it, so no conflict tells."""
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    async with Index.open(elasticsearch_url) as other_client:
        other = Indexer(other_client, HashEncoder(), Letters(), max_chunks=100)  # type: ignore[arg-type]
        write, raced = Index.write, 0

        async def racing(self: Index, writes: Sequence[Write]) -> Any:
            nonlocal raced
            if not raced:
                raced += 1
                await other.handle(records_of([a_deletion(9)]))
            return await write(self, writes)

        monkeypatch.setattr(Index, "write", racing)
        await indexer.handle(records_of([a_part("crane")]))
    monkeypatch.setattr(Index, "write", write)
    assert raced == 1
    message, part = (await _documents(index)).values()
    assert (message["live"], part["live"], "text" in part) == (False, False, False)


async def test_a_partial_write_to_what_is_gone_is_a_conflict(index: Index, indexer: Indexer) -> None:
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    document = document_id("box", "m1")
    stored = (await index.read([document], ["live"]))[document]
    await index._client.delete(index=mapping.WRITE_ALIAS, id=document)
    [result] = await index.write([Write(document, {"live": True}, stored, partial=True)])
    assert isinstance(result, ConflictError)


async def test_without_its_alias_nothing_is_written_anywhere(index: Index, indexer: Indexer) -> None:
    await index._client.indices.delete(index=mapping.index_name())
    with pytest.raises(ConfigurationError, match="mailstream worker index"):
        await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    assert not await index._client.indices.exists(index=mapping.WRITE_ALIAS)
    await index.ensure()
    await indexer.handle(records_of([some_labels(5, "INBOX"), a_message()]))
    assert len(await _documents(index)) == 1


async def test_each_piece_of_a_mail_is_embedded_under_its_subject(index: Index, letters: Letters) -> None:
    asked: list[str] = []

    class Recording(HashEncoder):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            asked.extend(texts)
            return super().encode(texts)

    long = " ".join(f"word{number}" for number in range(600))
    message = a_message().message
    assert message is not None
    content = message.model_copy(update={"subject": "The crane", "text": long, "parts": ()})
    register = a_message().model_copy(update={"message": content})
    await Indexer(index, Recording(), letters, max_chunks=10).handle(  # type: ignore[arg-type]
        records_of([some_labels(5, "INBOX"), register])
    )
    [document] = (await _documents(index)).values()
    assert len(document["chunks"]) > 2
    assert sorted(asked) == sorted(f"The crane\n\n{piece['text']}" for piece in document["chunks"])
    assert not any("crane" in piece["text"] for piece in document["chunks"])
