"""The thirty questions are what they say: the right number of each kind, and no word given away."""

import mailbox
import re
from collections import Counter
from pathlib import Path

import pytest

from devstack.sample.mailbox import SampleSummary
from devstack.sample.questions import QUESTIONS, Question
from schemas.mime import Part, parse
from tests.unit.devstack.test_sample_mailbox import body_of, layers

STOP_WORDS = {
    *("a", "an", "and", "at", "be", "by", "for", "his", "in", "is", "of", "on", "or"),
    *("the", "to", "was", "when", "which", "who", "with"),
}


@pytest.fixture(scope="module")
def mails(sample: tuple[Path, SampleSummary]) -> dict[tuple[str, str], Part]:
    """Every mail by its sender and date, which stand in its Message-ID."""
    box = mailbox.mbox(sample[0], create=False)
    try:
        parts = [parse(box.get_bytes(key)) for key in box.keys()]  # noqa: SIM118
    finally:
        box.close()
    found = {}
    for part in parts:
        _, _, stamp, sender = (part.header("Message-ID") or "").split("@")[0].split(".")
        found[sender, stamp] = part
    return found


def answer_to(question: Question, mails: dict[tuple[str, str], Part]) -> Part:
    return mails[question.sender, re.sub(r"\D", "", question.date)]


def stems(text: str) -> set[str]:
    """Content words, cut down far enough that "freezing" and "freezes" count as one."""
    return {word[:5] for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS}


def test_there_are_ten_of_each_kind_and_each_has_its_answer(mails: dict[tuple[str, str], Part]) -> None:
    assert Counter(question.kind for question in QUESTIONS) == {
        "meaning": 10,
        "attachment": 10,
        "operators": 10,
    }
    assert len({question.query for question in QUESTIONS}) == 30
    for question in QUESTIONS:
        assert answer_to(question, mails)


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.kind == "meaning"], ids=lambda q: q.query)
def test_questions_of_meaning_share_no_content_word(
    question: Question, mails: dict[tuple[str, str], Part]
) -> None:
    answer = answer_to(question, mails)
    assert not stems(question.query) & stems(layers(answer))


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.kind == "attachment"], ids=lambda q: q.query)
def test_answers_of_attachments_stand_in_no_message(
    question: Question, mails: dict[tuple[str, str], Part]
) -> None:
    assert question.answer
    for mail in mails.values():
        text = f"{mail.header('Subject')}\n{body_of(mail)}"
        assert question.answer.lower() not in " ".join(text.lower().split())
