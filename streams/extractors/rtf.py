"""RTF in any code page: fonts say which, ``\\u`` says Unicode, and objects and pictures hold bytes in hex."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace

from streams.extractors.ole import unwrap_native
from streams.extractors.pictures import worth_reading
from streams.extractors.result import Document

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 78: "shift_jis", 79: "johab", 80: "gb2312", 81: "big5", 83: "mac_hebrew",
    85: "mac_greek", 86: "mac_turkish", 89: "mac_cyrillic", 128: "cp932", 129: "cp949", 130: "johab",
    134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256",
    186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 255: "cp437",
}  # fmt: skip
_DESTINATIONS = frozenset(
    b"fonttbl colortbl stylesheet pict objdata fldinst info header headerl headerr headerf footer footerl"
    b" footerr footerf footnote annotation title author operator creatim subject keywords doccomm listtable"
    b" listoverridetable revtbl rsidtbl generator themedata colorschememapping datastore latentstyles"
    b" xmlnstbl filetbl result nonshppict bkmkstart bkmkend private pntext listtext atnid atnauthor"
    b" atrfstart atrfend shptxt shpinst sp sn sv objclass objname template company manager category comment"
    b" hlinkbase userprops htmltag mhtmltag mmathPr wgrffmtfilter pgdsctbl pgptbl oldcprops oldpprops"
    b" passwordhash falt panose".split()
)
_KEPT = frozenset(
    b"header headerl headerr headerf footer footerl footerr footerf footnote annotation shptxt shpinst"
    b" fldinst result pntext listtext objdata pict fonttbl title author subject keywords doccomm category"
    b" comment atnauthor sp sv".split()
)
_LABELS = {
    **dict.fromkeys((b"header", b"headerl", b"headerr", b"headerf"), "header"),
    **dict.fromkeys((b"footer", b"footerl", b"footerr", b"footerf"), "footer"),
    b"footnote": "footnotes",
    b"annotation": "comments",
}
_TOLD = {b"title": "title", b"author": "author"}
_SPACES = {
    b"par": "\n", b"sect": "\n", b"page": "\f", b"line": "\n", b"row": "\n", b"cell": "\t", b"nestcell": "\t",
    b"nestrow": "\n", b"tab": "\t", b"emdash": "—", b"endash": "–", b"lquote": "‘", b"rquote": "’",
    b"ldblquote": "“", b"rdblquote": "”", b"bullet": "•", b"emspace": " ", b"enspace": " ", b"qmspace": " ",
}  # fmt: skip
_LINK = re.compile(r'HYPERLINK\s+(?:\\+\w\s+)*"?([^"\s]+)')
_MAX_DEPTH = 2_000


@dataclass(slots=True)
class _State:
    """What a group inherits."""

    destination: bytes = b""
    skipped: bool = False
    codec: str = "cp1252"
    fallback_characters: int = 1
    ignorable: bool = False


@dataclass(slots=True)
class _Reader:
    document: Document
    texts: dict[str | None, list[str]] = field(default_factory=dict)
    fonts: dict[int, str] = field(default_factory=dict)
    font: int = 0
    default_codec: str = "cp1252"
    default_font: int = -1
    pending: bytearray = field(default_factory=bytearray)
    skip_characters: int = 0
    collected: list[str] = field(default_factory=list)
    hexadecimal: list[bytes] = field(default_factory=list)
    objects: list[tuple[bytes, bytes]] = field(default_factory=list)
    high_surrogate: int = 0

    def read(self, data: bytes) -> None:
        state = _State()
        stack: list[_State] = []
        at = 0
        while match := _TOKEN.search(data, at):
            at = match.end()
            word, number, hexadecimal, symbol, brace, plain = match.groups()
            if plain is not None:
                self._plain(state, plain)
            elif hexadecimal is not None:
                if self.skip_characters:
                    self.skip_characters -= 1
                else:
                    self._bytes(state, bytes.fromhex(hexadecimal.decode()))
            elif brace == b"{":
                self._flush(state)
                self.skip_characters = 0
                if len(stack) < _MAX_DEPTH:
                    stack.append(state)
                    state = replace(state, ignorable=False)
            elif brace == b"}":
                self._flush(state)
                self.skip_characters = 0
                if stack:
                    outer = stack.pop()
                    if outer.destination != state.destination or (
                        state.destination and not outer.destination
                    ):
                        self._end(state, outer)
                    state = outer
            elif word is not None:
                if word == b"bin" and number:
                    self.hexadecimal.append(data[at : at + max(int(number), 0)].hex().encode())
                    at += max(int(number), 0)
                else:
                    self._word(state, word, int(number) if number else None)
            elif symbol is not None:
                self._symbol(state, symbol)
        self._flush(state)

    def _symbol(self, state: _State, symbol: bytes) -> None:
        if symbol == b"*":
            state.ignorable = True
        elif symbol in (b"\\", b"{", b"}"):
            self._bytes(state, symbol)
        else:
            kept = {b"~": " ", b"_": "-", b"\r": "\n", b"\n": "\n"}.get(symbol)
            if kept:
                self._say(state, kept)

    def _word(self, state: _State, word: bytes, number: int | None) -> None:
        if word == b"u" and number is not None:
            self._flush(state)
            self._unicode(state, number & 0xFFFF)
            self.skip_characters = state.fallback_characters
            return
        if word in _SPACES:
            self._say(state, _SPACES[word])
        elif word == b"f" and number is not None:
            self._flush(state)
            if state.destination == b"fonttbl":
                self.font = number
            else:
                state.codec = self.fonts.get(number, self.default_codec)
        elif word == b"fcharset":
            if state.destination == b"fonttbl" and number in _CHARSETS:
                self.fonts[self.font] = _CHARSETS[number] if number not in (0, 255) else self.default_codec
        elif word == b"ansicpg" and number:
            self.default_codec = state.codec = _known(f"cp{number}", self.default_codec)
        elif word in (b"mac", b"pc", b"pca"):
            self.default_codec = state.codec = {b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}[word]
        elif word == b"deff" and number is not None:
            self.default_font = number
        elif word == b"plain":
            self._flush(state)
            state.codec = self.fonts.get(self.default_font, self.default_codec)
        elif word == b"uc" and number is not None:
            state.fallback_characters = max(number, 0)
        elif word == b"v":
            pass  # hidden text is text
        elif word in _DESTINATIONS or state.ignorable:
            self._flush(state)
            self._begin(state, word)
        state.ignorable = False

    def _begin(self, state: _State, word: bytes) -> None:
        if word == b"sn" or (word in _DESTINATIONS and word not in _KEPT and word != b"info"):
            state.skipped = True
        elif word not in _DESTINATIONS:
            state.skipped = state.skipped or state.ignorable
        elif word in (b"shpinst", b"sp", b"result", b"info", b"pntext", b"listtext"):
            return
        if word in _KEPT:
            state.destination = word
            if word in (b"objdata", b"pict"):
                self.hexadecimal = []
            elif word == b"fldinst" or word in _TOLD:
                self.collected = []

    def _end(self, state: _State, outer: _State) -> None:
        if state.skipped:
            return
        if state.destination in (b"objdata", b"pict"):
            self.objects.append((state.destination, b"".join(self.hexadecimal)))
            self.hexadecimal = []
        elif state.destination == b"fldinst":
            if link := _LINK.search("".join(self.collected)):
                self._say(outer, f" {link[1]} ")
            self.collected = []
        elif state.destination in _TOLD:
            self.document.facts[_TOLD[state.destination]] = "".join(self.collected).strip()
            self.collected = []

    def _plain(self, state: _State, plain: bytes) -> None:
        if state.destination in (b"objdata", b"pict"):
            self.hexadecimal.append(plain)
            return
        if self.skip_characters:
            skipped = min(self.skip_characters, len(plain))
            self.skip_characters -= skipped
            plain = plain[skipped:]
        self._bytes(state, plain)

    def _bytes(self, state: _State, data: bytes) -> None:
        if not state.skipped and state.destination != b"fonttbl":
            self.pending += data

    def _flush(self, state: _State) -> None:
        if self.pending:
            text = self.pending.decode(state.codec, "replace")
            self.pending.clear()
            self._put(state, text)

    def _say(self, state: _State, text: str) -> None:
        self._flush(state)
        self._put(state, text)

    def _unicode(self, state: _State, code: int) -> None:
        if 0xD800 <= code < 0xDC00:
            self.high_surrogate = code
            return
        if 0xDC00 <= code < 0xE000 and self.high_surrogate:
            code = 0x10000 + ((self.high_surrogate - 0xD800) << 10) + code - 0xDC00
        self.high_surrogate = 0
        if 0xF000 <= code <= 0xF0FF:  # the private area of symbol fonts
            code -= 0xF000
        self._put(state, chr(code) if not 0xD800 <= code < 0xE000 else "�")

    def _put(self, state: _State, text: str) -> None:
        if state.skipped or state.destination in (b"objdata", b"pict", b"fonttbl"):
            return
        if state.destination == b"fldinst" or state.destination in _TOLD:
            self.collected.append(text)
        else:
            self.texts.setdefault(_LABELS.get(state.destination), []).append(text)


def extract_rtf(document: Document) -> None:
    """Emit the text, page by page where the file breaks them; objects and pictures become children."""
    document.used("mailstream-rtf")
    reader = _Reader(document)
    reader.read(document.payload)
    pages = "".join(reader.texts.pop(None, [])).split("\f")
    for number, text in enumerate(pages, start=1):
        document.text(text, page=number if len(pages) > 1 else None)
    for label, texts in reader.texts.items():
        document.text("".join(texts).replace("\f", "\n"), label=label)
    for kind, hexadecimal in reader.objects:
        digits = re.sub(rb"[^0-9a-fA-F]", b"", hexadecimal)
        payload = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
        document.budget.unpack(len(payload))
        if kind == b"pict":
            if worth_reading(payload):
                document.embedded(payload)
        elif found := _object(payload):
            document.embedded(found[1], filename=found[0])


def _object(payload: bytes) -> tuple[str | None, bytes] | None:
    """What an OLE 1 object holds ([MS-OLEDS] 2.2.5): version, format, three counted strings, the data."""
    at = 8
    names = []
    for _ in range(3):
        length = int.from_bytes(payload[at : at + 4], "little")
        names.append(payload[at + 4 : at + 4 + length].rstrip(b"\0"))
        at += 4 + length
    size = int.from_bytes(payload[at : at + 4], "little")
    data = payload[at + 4 : at + 4 + size]
    if not data:
        return None
    if names[0] == b"Package":
        return unwrap_native(size.to_bytes(4, "little") + data)
    return None, data


def _known(codec: str, otherwise: str) -> str:
    try:
        return codecs.lookup(
            {"cp65001": "utf-8", "cp10000": "mac_roman", "cp936": "gbk"}.get(codec, codec)
        ).name
    except LookupError:
        return otherwise
