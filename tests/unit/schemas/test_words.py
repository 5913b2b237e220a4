"""Words as they are matched: folded, stemmed, and split where people would split them."""

import pytest

from schemas.words import query_stems, stemmed, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The QUAY, repaired", ["the", "quay", "repaired"]),
        ("Klaipėda Straße Übergabe", ["klaipeda", "strasse", "ubergabe"]),
        ("NV-88-3120", ["nv", "88", "3120"]),
        ("1,150 pounds at 3.8%", ["1150", "pounds", "at", "3.8"]),
        ("helen.marsh@tidewell.example", ["helen", "marsh", "tidewell", "example"]),
        ("Invoice_HK-20417.pdf", ["invoice", "hk", "20417", "pdf"]),
        ("l'eau don't", ["l", "eau", "don", "t"]),
        ("漢字 かな", ["漢", "字", "か", "な"]),
        ("x" * 100, []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_forms_of_a_word_are_one() -> None:
    assert query_stems("delivery") == query_stems("deliveries") == query_stems("Delivered deliveries")[1:]
    assert set(query_stems("engineering engineered")) <= set(stemmed("the engineers' engine").split())


def test_words_that_say_nothing_are_not_asked_for_unless_there_is_nothing_else() -> None:
    assert query_stems("what is the penalty") == ["penalti"]
    assert query_stems("to be or not to be") == ["to", "be", "or", "not", "to", "be"]
