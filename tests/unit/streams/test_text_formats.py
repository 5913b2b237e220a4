"""Text in every charset, and the formats that are text with marks in it."""

import codecs

import pytest

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.charsets import decode
from tests.reading import SENTENCE, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXTS = {
    "ja": "岸壁は七ミリメートル傾いています。すべての係船柱を点検し、結果を送ってください。",
    "zh": "岸墙倾斜了七毫米。请在星期五之前检查所有的系缆桩，并把结果寄给港务局。违约金是每天一千元。",
    "zh-tw": "岸牆傾斜了七毫米。請檢查所有的繫纜樁，並把結果寄給港務局。合約的違約金是每天一千元。",
    "ko": "안벽이 칠 밀리미터 기울었습니다. 금요일까지 모든 계선주를 점검하고 결과를 항만청에 보내 주십시오.",
    "ru": "Причальная стенка наклонилась на семь миллиметров. Проверьте все швартовные тумбы до пятницы.",
    "el": "Το κρηπίδωμα έχει κλίση επτά χιλιοστών. Ελέγξτε όλες τις δέστρες μέχρι την Παρασκευή.",
    "he": "קיר הרציף נוטה בשבעה מילימטרים. בדקו את כל עמודי העגינה עד יום שישי ושלחו את התוצאות לרשות הנמל.",
    "de": "Die Kaimauer neigt sich um sieben Millimeter. Überprüfen Sie bis Freitag alle Poller, für "
    "Verspätungen fällt eine Vertragsstrafe an. Größe, Maß, Tür, schön.",
    "fr": "Le mur du quai penche de sept millimètres. Vérifiez toutes les bittes d’amarrage avant vendredi "
    "et envoyez les résultats à l’autorité portuaire. Pénalité prévue à l’été où ça gêne.",
    "pl": "Ściana nabrzeża przechyliła się o siedem milimetrów. Sprawdź wszystkie pachołki do piątku i "
    "wyślij wyniki do zarządu portu. Żółć, źrebię, gęś.",
}
CHARSETS = [
    *(
        ("ja", name)
        for name in ("shift_jis", "euc_jp", "iso2022_jp", "utf_16_le", "utf_16_be", "utf_16", "utf_8_sig")
    ),
    *(("zh", name) for name in ("gb18030", "utf_16_le", "utf_32_be", "utf_8")),
    *(("ko", name) for name in ("euc_kr", "iso2022_kr")),
    *(("ru", name) for name in ("koi8_r", "cp1251", "cp866", "iso8859_5", "mac_cyrillic", "utf_16_le")),
    *(("el", "cp1253"), ("he", "cp1255"), ("zh-tw", "big5"), ("pl", "cp1250"), ("pl", "iso8859_2")),
    *(("fr", name) for name in ("cp1252", "mac_roman")),
    *(("de", name) for name in ("cp1252", "mac_roman", "utf_32_le", "cp037", "cp500", "cp1140")),
]


@pytest.mark.parametrize(("language", "charset"), CHARSETS)
async def test_a_charset_that_nobody_names_is_found(
    reader: EphemeralAttachmentHandler, language: str, charset: str
) -> None:
    text = (TEXTS[language] + "\n") * 3
    payload = text.encode(charset, "ignore")
    expected = codecs.decode(payload, charset).replace("\x85", "\n")
    found = await read(reader, payload, "note.txt")
    assert found.root.outcome is Outcome.TEXT
    assert found.text.split() == expected.split()


@pytest.mark.parametrize("declared", ["iso-8859-1", "us-ascii", "utf-8"])
@pytest.mark.parametrize(("language", "charset"), [("ru", "koi8_r"), ("ja", "shift_jis"), ("zh", "gb18030")])
async def test_a_wrong_name_of_the_charset_deceives_nobody(
    reader: EphemeralAttachmentHandler, language: str, charset: str, declared: str
) -> None:
    payload = (TEXTS[language] * 2).encode(charset)
    assert TEXTS[language] in (await read(reader, payload, None, f"text/plain; charset={declared}")).text


async def test_a_right_name_is_believed_and_damage_stays_where_it_is() -> None:
    assert decode("Größe".encode("cp850"), "cp850") == "Größe"
    assert decode(b"caf\xe9 \x93quoted\x94", "iso-8859-1") == "café “quoted”"
    text = TEXTS["fr"] * 20
    damaged = bytearray(text.encode())
    damaged[500:501] = b"\xff"
    assert decode(bytes(damaged), None).count("\ufffd") <= 3


FORMATS: list[tuple[str, str, str]] = [
    ("notes.md", f"# Quay\n\n* {SENTENCE}", "text/markdown"),
    ("table.csv", f"crane,{SENTENCE}\n1,2\n", "text/csv"),
    ("table.tsv", f"crane\t{SENTENCE}\n", "text/tab-separated-values"),
    ("data.json", '{"found": "' + SENTENCE + '"}', "application/json"),
    ("book.ipynb", '{"cells": [{"source": ["' + SENTENCE + '"]}]}', "text/plain"),
    ("film.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{SENTENCE}\n", "text/plain"),
    ("words.po", f'msgid "a"\nmsgstr "{SENTENCE}"\n', "text/plain"),
    ("app.properties", f"note = {SENTENCE}\n", "text/plain"),
    ("server.log", f"2026-11-24 10:00:00 INFO {SENTENCE}\n", "text/plain"),
    ("code.py", f'print("{SENTENCE}")\n', "text/x-python"),
    ("link.url", f"[InternetShortcut]\nURL=https://example.com/{SENTENCE}\n", "text/plain"),
    ("page.html", f"<html><head><title>Quay</title></head><p>{SENTENCE}</html>", "text/html"),
    ("page.bin", f"<!-- saved -->\n<!DOCTYPE html><title>x</title><p>{SENTENCE}", "text/html"),
    ("page.xhtml", f'<?xml version="1.0"?>\n<html xmlns="urn:x"><body>{SENTENCE}</body></html>', "text/html"),
    ("data.xml", f'<?xml version="1.0"?><a><b title="{SENTENCE}"/></a>', "application/xml"),
    ("feed.rss", f"<rss><item><description>&lt;p&gt;{SENTENCE}&lt;/p&gt;</description></item></rss>",
     "application/xml"),
    ("drawing.svg", f'<svg xmlns="urn:svg"><style>a</style><text>{SENTENCE}</text></svg>', "image/svg+xml"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "content_type"), FORMATS)
@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
async def test_formats_that_are_text(
    reader: EphemeralAttachmentHandler, name: str, source: str, content_type: str, charset: str
) -> None:
    found = await read(reader, source.encode(charset), name)
    assert (found.root.outcome, found.root.metadata.content_type) == (Outcome.TEXT, content_type)
    assert SENTENCE in found.text
    assert "<" not in found.text or ("html" not in content_type and "xml" not in content_type)


async def test_pages_say_what_their_pictures_show(reader: EphemeralAttachmentHandler) -> None:
    page = f'<html><body><p>Look:<img src="x" alt="{SENTENCE}"><script>hidden()</script></body></html>'
    found = await read(reader, page.encode())
    assert SENTENCE in found.text and "hidden" not in found.text


async def test_entities_of_xml_are_not_resolved(reader: EphemeralAttachmentHandler) -> None:
    bomb = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
    for body in (
        f'<!DOCTYPE a [<!ENTITY e0 "boom">{bomb}]>',
        '<!DOCTYPE a [<!ENTITY e12 SYSTEM "file:///etc/passwd">]>',
    ):
        found = await read(reader, f'<?xml version="1.0"?>{body}<a>{SENTENCE} &e12;</a>'.encode(), "a.xml")
        assert SENTENCE in found.text and "boom" not in found.text and "root:" not in found.text


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b"ID3\x04" + bytes(40), "audio/mpeg"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(40), "video/mp4"),
        (b"OggS\x00\x02" + bytes(40), "audio/ogg"),
        (b"\x7fELF\x02\x01\x01" + bytes(40), "application/x-executable"),
        (b"MZ\x90\x00\x03\x00" + bytes(60), "application/vnd.microsoft.portable-executable"),
        (b"SQLite format 3\x00" + bytes(90), "application/vnd.sqlite3"),
        (b"wOF2\x00\x01\x00\x00" + bytes(40), "font/woff2"),
    ],
)
async def test_what_has_no_text_is_named(
    reader: EphemeralAttachmentHandler, payload: bytes, content_type: str
) -> None:
    found = await read(reader, payload, "note.txt", "text/plain")
    assert (found.root.outcome, found.root.metadata.content_type) == (Outcome.UNSUPPORTED, content_type)
