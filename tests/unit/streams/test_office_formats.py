"""Every office format gives its known sentence, with its place, wherever in the file it stands."""

import io
import subprocess
import sys
import zipfile
from typing import Any

import openpyxl
import pytest

from schemas.outcomes import Outcome
from streams.extractors import number_format, ole_file, partition
from streams.extractors.limits import Limits
from streams.extractors.result import Budget, Document
from tests import office_files as made
from tests.office_cases import CASES, DOCX
from tests.reading import SENTENCE as S
from tests.reading import extracted


class Read:
    """What an extraction emitted."""

    def __init__(self, payload: bytes, filename: str | None = None, limits: Limits | None = None) -> None:
        self.records = extracted(payload, filename, limits)

    def text(self, path: tuple[int, ...] = ()) -> str:
        return "\n".join(r["text"] for r in self.records if r["type"] == "segment" and r["path"] == path)

    def place(self, sentence: str, path: tuple[int, ...] = ()) -> tuple[int | None, str | None]:
        for record in self.records:
            if record["type"] == "segment" and record["path"] == path and sentence in record["text"]:
                return record["page"], record["label"]
        raise AssertionError(f"{sentence!r} is not in {self.records}")

    def closed(self, path: tuple[int, ...] = ()) -> dict[str, Any]:
        [record] = [r for r in self.records if r["type"] == "close" and r["path"] == path]
        return record

    @property
    def paths(self) -> list[tuple[int, ...]]:
        return [record["path"] for record in self.records if record["type"] == "open"]


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_its_sentence_where_it_stands(name: str) -> None:
    build, sentence, place, path = CASES[name]
    read = Read(build())
    assert read.place(sentence, path) == place
    assert read.closed(path)["outcome"] == Outcome.TEXT


@pytest.mark.parametrize("kind", ["docx", "pptx"])
def test_unstructured_reads_the_body_of_office_files(kind: str) -> None:
    payload = {"docx": made.word(S), "pptx": made.slides(S)}[kind]
    assert "unstructured" in Read(payload).closed()["engines"]


def test_what_unstructured_said_is_not_said_again() -> None:
    text = Read(made.word(S)).text()
    assert text.count(S) == 1


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_where_unstructured_fails_the_text_is_read_all_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.extractors.ooxml.partition", lambda *_: [])
    payload = {"docx": made.word(S), "pptx": made.slides(S), "xlsx": made.workbook(A1=S)}[kind]
    assert S in Read(payload).text()


def test_numbers_are_read_as_a_sheet_shows_them() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"], sheet["A1"].number_format = 0.125, "0.00%"
    sheet["A2"], sheet["A2"].number_format = 45000, "yyyy\\-mm\\-dd"
    sheet["A3"], sheet["A3"].number_format = 1192, "#,##0"
    text = Read(made.saved(book)).text()
    assert "12.50%" in text and "2023-03-15" in text
    assert "1,192\t1192" in text, "people look for either"


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (1234.5, "#,##0.00", "1,234.50"),
        (-3, "0;(0)", "(3)"),
        (2.5, "General", "2.5"),
        (1e20, None, "1E+20"),
        (0.5, "h:mm", "12:00"),
        (45000.75, "d/m/yy h:mm AM/PM", "15/3/23 6:00 PM"),
        (60, "d", "29"),
        (1.5, "[h]:mm", "36:00:00"),
        (7, '0" piles"', "7 piles"),
        (5, "[$€-407] 0.0", "€ 5.0"),
        (0.5, "# ?/?", "0.5"),
        (3, "\\", "3"),
        (1e300, "yyyy", "1E+300"),
    ],
)
def test_number_formats(value: float, code: str | None, shown: str) -> None:
    if code == "d":  # the day that never was
        assert number_format.shown(value, code) in ("28", "29")
    else:
        assert number_format.shown(value, code) == shown


def test_an_encrypted_file_is_named_so() -> None:
    assert Read(ole_file.write({("EncryptedPackage",): b"x" * 5000})).closed()["outcome"] == Outcome.ENCRYPTED
    manifest = {"META-INF/manifest.xml": "<m:encryption-data xmlns:m='m'/>"}
    sealed = made.opendocument("text", "<text:p>x</text:p>", dict(manifest))
    assert Read(sealed).closed()["outcome"] == Outcome.ENCRYPTED


def test_a_workbook_under_the_password_that_everybody_knows_is_read() -> None:
    from msoffcrypto.format.ooxml import OOXMLFile

    sealed = io.BytesIO()
    OOXMLFile(io.BytesIO(made.workbook(A1=S))).encrypt("VelvetSweatshop", sealed)
    read = Read(sealed.getvalue())
    assert S in read.text((1,))
    sealed = io.BytesIO()
    OOXMLFile(io.BytesIO(made.workbook(A1=S))).encrypt("another", sealed)
    assert Read(sealed.getvalue()).closed()["outcome"] == Outcome.ENCRYPTED


@pytest.mark.parametrize("kind", ["docx", "odt", "epub", "xlsx"])
def test_a_file_that_lost_its_end_keeps_what_it_has(kind: str) -> None:
    payload = {
        "docx": lambda: made.word(S),
        "xlsx": lambda: made.workbook(A1=S),
        "odt": lambda: made.opendocument("text", f"<text:p>{S}</text:p>"),
        "epub": lambda: made.epub(S),
    }[kind]()
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        directory = archive.start_dir
    read = Read(payload[:directory])
    assert S in read.text()
    assert read.closed()["truncated"]


@pytest.mark.parametrize("name", CASES)
def test_a_truncated_file_ends_in_an_outcome(name: str) -> None:
    payload = CASES[name][0]()
    read = Read(payload[: len(payload) * 2 // 3])
    assert Outcome(read.closed()["outcome"])


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "lollollol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for payload in (
        made.flat_word("&b;").replace(b"<?mso", bomb.encode() + b"<?mso"),
        made.flat_opendocument("text", "<text:p>&b;</text:p>")
        .replace("<office:document ", bomb + "<office:document ")
        .encode(),
        made.with_part(made.word(), DOCX, "chart", "word/charts/c.xml", bomb + "<c><t>&b;</t></c>"),
    ):
        assert "lollollol" not in Read(payload).text()


def test_nested_office_files_end_at_the_depth_limit() -> None:
    payload = made.word(S)
    for _ in range(12):
        payload = made.with_part(made.word(), DOCX, "package", "word/embeddings/a.docx", payload)
    read = Read(payload)
    assert max(map(len, read.paths)) == Limits().max_depth


def test_a_part_that_unpacks_to_a_memory_full_is_not_unpacked() -> None:
    bomb = made.with_part(made.word(), DOCX, "chart", "word/charts/c.xml", b" " * 60_000_000)
    read = Read(bomb)
    assert read.closed()["outcome"] == Outcome.LIMIT_EXCEEDED


def test_an_ole_file_of_ours_reads_back() -> None:
    streams = {("a",): b"1" * 5000, ("b", "c"): b"2" * 70_000, ("b", "dd"): b"3", ("e",): b""}
    document = Document(
        (), ole_file.write(streams), None, None, None, False, Budget(Limits()), lambda _: None
    )
    found = ole_file.read(document)
    assert {path: data.rstrip(b"\0") for path, data in found.items()} == streams


def test_the_tokenizers_of_ours_are_in_place() -> None:
    from unstructured.partition import text_type

    assert vars(text_type)["sent_tokenize"]("One. Two.") == ["One.", "Two."]
    assert partition.partition is not None


def test_parsers_hold_nothing_that_only_tells_titles_and_languages() -> None:
    unwanted = ("torch", "spacy", "pandas", "iso639", "unstructured.nlp.english_words")
    ask = f"""
import sys
import streams.extractors.registry
from unstructured.cleaners import core
print(sorted(set(sys.modules) & set({unwanted!r})), len(core.tbl), sys.maxunicode)
"""
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["[]", "0", str(sys.maxunicode)]
