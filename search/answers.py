"""What the API answers, as its OpenAPI document describes it. Times are milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from search.labels import LabelDirectories
from search.reading import SHOWN_CHARACTERS, Document
from search.results import MARK_END, MARK_START, Hit, Match, Results


class Problem(BaseModel):
    """Why there is no answer."""

    code: str = Field(
        description="query, cursor, parameters, signed_out, forbidden, not_found, busy, unavailable"
    )
    message: str
    position: int | None = Field(None, description="Where in the query, in characters")


class ErrorAnswer(BaseModel):
    """The body of every answer that is no success."""

    error: Problem


class Run(BaseModel):
    """A run of text of a snippet."""

    text: str
    marked: bool = False


class MatchAnswer(BaseModel):
    """Where a message matched."""

    part_path: str = Field(description="Empty: the message's body")
    filename: str | None
    page: int | None
    where: str = Field(description="The place in a person's words: contract.pdf, page 3")
    snippet: list[Run]


class CopyAnswer(BaseModel):
    """The same mail in another mailbox."""

    mailbox_id: str
    message_id: str


class HitAnswer(BaseModel):
    """A message found."""

    mailbox_id: str
    message_id: str
    thread_id: str | None
    subject: str
    sender: str
    to: list[str]
    sent_at: int | None
    labels: list[str]
    has_attachment: bool
    score: float
    matches: list[MatchAnswer]
    copies: list[CopyAnswer]


class SearchAnswer(BaseModel):
    """A page of messages, the best first; the newest where the query has no words to rank by."""

    results: list[HitAnswer]
    next_cursor: str | None
    corrected: str | None = Field(description="What was searched instead, because nothing matched the query")
    suggestions: list[str] = Field(description="Queries that were probably meant")


class AttachmentAnswer(BaseModel):
    """An attachment, or what one holds."""

    document_id: str
    part_path: str
    filename: str | None
    content_type: str | None
    size_bytes: int | None
    pages: int | None
    outcome: str | None
    scan: str | None
    truncated: bool = Field(description="Whether there is more text than is shown here or could be read")
    text: str


class MessageAnswer(BaseModel):
    """A message with everything in it."""

    document_id: str
    mailbox_id: str
    mailbox: str | None = Field(description="The mailbox's address")
    message_id: str
    thread_id: str | None
    thread_messages: int
    rfc_message_id: str | None
    subject: str
    sender: str
    to: list[str]
    cc: list[str]
    sent_at: int | None
    labels: list[str]
    text: str
    truncated: bool
    gmail_url: str | None
    attachments: list[AttachmentAnswer]


class ThreadMessage(BaseModel):
    """A message of a thread."""

    mailbox_id: str
    message_id: str
    subject: str
    sender: str
    sent_at: int | None


class ThreadAnswer(BaseModel):
    """A thread, the oldest message first."""

    messages: list[ThreadMessage]


class FacetAnswer(BaseModel):
    """A value that some of the found messages have; ``query`` is what narrows the search down to them."""

    name: str
    count: int
    query: str


class FacetsAnswer(BaseModel):
    """What the found messages have in common, the commonest first."""

    sender: list[FacetAnswer]
    label: list[FacetAnswer]
    type: list[FacetAnswer]
    month: list[FacetAnswer]


class SuggestionsAnswer(BaseModel):
    """What a query may go on with, the commonest first."""

    suggestions: list[FacetAnswer]


class MailboxStatus(BaseModel):
    """How far a mailbox has come."""

    mailbox_id: str
    address: str
    phase: str = Field(description="waiting, listing, resyncing, following, parked, purged")
    listed: int
    total: int | None
    read_at: int | None = Field(description="When its position was last noted; once a minute at least")
    quota: int | None = Field(description="Gmail units left to the source then; null where nobody counts")
    dead_letters: int
    messages: int


class StatusAnswer(BaseModel):
    """The caller's mailboxes. ``lag`` counts events by the stage they wait for, of all mailboxes together."""

    progress: float | None = Field(
        description="Part [0-1] of the messages that can be found by now; null when unknown"
    )
    mailboxes: list[MailboxStatus]
    outcomes: dict[str, int]
    lag: dict[str, int]


def search_answer(found: Results, labels: LabelDirectories) -> SearchAnswer:
    """A page of results in the API's words."""
    return SearchAnswer(
        results=[_hit(hit, labels) for hit in found.hits],
        next_cursor=found.cursor,
        corrected=found.showing_results_for,
        suggestions=[found.did_you_mean] if found.did_you_mean else [],
    )


def _hit(hit: Hit, labels: LabelDirectories) -> HitAnswer:
    return HitAnswer(
        mailbox_id=hit.mailbox_id,
        message_id=hit.message_id,
        thread_id=hit.thread_id,
        subject=hit.subject,
        sender=hit.sender,
        to=list(hit.to),
        sent_at=hit.sent_at,
        labels=[labels.name(hit.mailbox_id, label_id) for label_id in hit.label_ids],
        has_attachment=hit.has_attachment,
        score=round(hit.score, 4),
        matches=[_match(match) for match in hit.matches],
        copies=[CopyAnswer(mailbox_id=box, message_id=message) for box, message in hit.copies],
    )


def _match(match: Match) -> MatchAnswer:
    return MatchAnswer(
        part_path=match.part_path,
        filename=match.filename,
        page=match.page,
        where=match.where,
        snippet=list(_runs(match.snippet)),
    )


def _runs(snippet: str) -> Iterable[Run]:
    for position, piece in enumerate(snippet.split(MARK_START)):
        word, _, rest = piece.partition(MARK_END) if position else ("", "", piece)
        if word:
            yield Run(text=word, marked=True)
        if rest:
            yield Run(text=rest)


def message_answer(
    documents: list[Document], labels: LabelDirectories, address: str | None, thread_messages: int
) -> MessageAnswer:
    """A message's documents, its own first, in the API's words."""
    own, *parts = documents
    fields = own.fields
    text = fields.get("text", "")
    return MessageAnswer(
        document_id=own.document_id,
        mailbox_id=fields["mailbox_id"],
        mailbox=address,
        message_id=fields["message_id"],
        thread_id=fields.get("thread_id"),
        thread_messages=thread_messages,
        rfc_message_id=fields.get("rfc_message_id"),
        subject=fields.get("subject", ""),
        sender=fields.get("sender", ""),
        to=list(fields.get("to", ())),
        cc=list(fields.get("cc", ())),
        sent_at=fields.get("sent_at"),
        labels=[labels.name(fields["mailbox_id"], label) for label in fields.get("label_ids", ())],
        text=text[:SHOWN_CHARACTERS],
        truncated=len(text) > SHOWN_CHARACTERS or bool(fields.get("truncated")),
        gmail_url=_gmail_url(address, fields.get("rfc_message_id")),
        attachments=[attachment_answer(part, SHOWN_CHARACTERS) for part in parts],
    )


def attachment_answer(document: Document, characters: int | None = None) -> AttachmentAnswer:
    """A document in the API's words; with at most so many characters of its text."""
    fields: Mapping[str, Any] = document.fields
    text = fields.get("text", "")
    shown = text if characters is None else text[:characters]
    return AttachmentAnswer(
        document_id=document.document_id,
        part_path=fields["part_path"],
        filename=fields.get("filename"),
        content_type=fields.get("content_type"),
        size_bytes=fields.get("size_bytes"),
        pages=fields.get("pages"),
        outcome=fields.get("outcome"),
        scan=fields.get("scan"),
        truncated=len(shown) < len(text) or bool(fields.get("truncated")),
        text=shown,
    )


def thread_answer(documents: list[Document]) -> ThreadAnswer:
    """A thread's messages in the API's words."""
    return ThreadAnswer(
        messages=[
            ThreadMessage(
                mailbox_id=document.fields["mailbox_id"],
                message_id=document.fields["message_id"],
                subject=document.fields.get("subject", ""),
                sender=document.fields.get("sender", ""),
                sent_at=document.fields.get("sent_at"),
            )
            for document in documents
        ]
    )


def _gmail_url(address: str | None, rfc_message_id: str | None) -> str | None:
    """Where Gmail itself shows the message, to whom Gmail lets in."""
    if not rfc_message_id or not address:
        return None
    search = quote(f"rfc822msgid:{rfc_message_id}", safe="")
    return f"https://mail.google.com/mail/?authuser={quote(address, safe='@')}#search/{search}"
