"""What is embedded of a mail: its own words, in English and in German, and never nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.quoting import own_words


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (
            "The wall holds.\n\nOn Mon, 3 Nov 2025 at 10:00, Bob <bob@example.com> wrote:\n> does it?",
            "The wall holds.",
        ),
        (
            "Die Mauer hält.\n\nAm Mo., 3. Nov. 2025 um 10:00 Uhr schrieb Bob <b@example.com>:\n> hält sie?",
            "Die Mauer hält.",
        ),
        (
            "Yes.\n\nOn Monday, the third of November,\nBob <bob@example.com> wrote:\n\n  does it hold?",
            "Yes.",
        ),
        ("Passt.\n\nVon: Bob\nGesendet: Montag\nAn: Anna\nBetreff: Mauer\n\nhält sie?", "Passt."),
        ("Fine.\n________________________________\nFrom: Bob\nSent: Monday\nTo: Anna\n\ndoes it?", "Fine."),
        ("Fine.\n-----Original Message-----\nFrom: Bob\n\ndoes it?", "Fine."),
        ("On Monday Bob wrote:\n> does it hold?\nIt does.\n> when?\nOn Monday.", "It does.\nOn Monday."),
        ("It holds.\n-- \nAnna Smith\nHarbour Ltd", "It holds."),
        ("Es hält.\n\nMit freundlichen Grüßen\nAnna\n\nTel. 0123", "Es hält."),
        ("It holds.\n\nBest regards,\nAnna", "It holds."),
        ("It holds.\n\nSent from my telephone", "It holds."),
    ],
)
def test_quotes_and_signatures_are_left_out(text: str, own: str) -> None:
    assert own_words(text) == own


@pytest.mark.parametrize(
    "text",
    [
        "From: the desk of Anna\nwe write about the wall.",
        "Thanks\nfor the plan. " + "It is long and says a lot about the wall that must hold. " * 4,
        "---------- Forwarded message ----------\nFrom: Bob\nthe wall holds",
        "On reflection we wrote: nothing here is quoted, it ends in a full stop.",
        "> only a quote",
        "-- \nonly a signature",
    ],
)
def test_what_is_no_quote_stays(text: str) -> None:
    assert own_words(text) == text.strip()


@given(st.text(alphabet="> -OnwroteFrm:\n", max_size=300))
def test_every_line_left_stood_in_the_mail(text: str) -> None:
    own = own_words(text)
    assert bool(own) == bool(text.strip())
    assert {line.strip() for line in own.splitlines()} <= {line.strip() for line in text.splitlines()} | {""}


@pytest.mark.parametrize("line", ["> ", "On ", "On Monday Bob wrote:\n", "From: a\n", "regards\n"])
def test_time_grows_with_the_text_only(line: str) -> None:
    own_words(line * 100_000)  # work that grew with the square of it would not end within the suite's timeout
