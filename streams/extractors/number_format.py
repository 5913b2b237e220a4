"""Numbers as a sheet shows them: what a person searches for is ``12.5 %`` or a date, not what is stored."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

# Formats that files name by number only (ECMA-376, 18.8.30).
BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 5: "$#,##0", 6: "$#,##0", 7: "$#,##0.00",
    8: "$#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?", 13: "# ??/??", 14: "m/d/yy",
    15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm",
    21: "h:mm:ss", 22: "m/d/yy h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00",
    41: "#,##0", 42: "$#,##0", 43: "#,##0.00", 44: "$#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss",
    47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
}  # fmt: skip
_NOT_CODES = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_DATE_TOKEN = re.compile(r"(?i)AM/PM|A/P|y+|m+|d+|h+|s+|\.0+|[^ymdhs]")
_ELAPSED = re.compile(r"(?i)\[(h+|m+|s+)\]")
_LITERAL = re.compile(r'"([^"]*)"|\\(.)|\[\$([^\]-]*)[^\]]*\]|_.|\*.|\[[^\]]*\]')
# Fonts, sizes, colours and fields in the text of a header or footer.
_HEADER_CODES = re.compile(r'&(?:"[^"]*"|K[0-9A-F]{6}|\d+|[A-Z&])', re.IGNORECASE)
_MAX_CODE = 255
_MAX_SERIAL = 2_958_466  # the year 10000


def shown(value: float, code: str | None, date_1904: bool = False) -> str:
    """The number as its format code shows it. Codes that are too strange give the plain number."""
    # Excel takes no longer codes; our expressions take their time on them.
    sections = (code if code and len(code) <= _MAX_CODE else "General").split(";")
    section = sections[1] if value < 0 and len(sections) > 1 and sections[1] else sections[0]
    if value == 0 and len(sections) > 2 and sections[2]:
        section = sections[2]
    kind = _kind(section)
    if kind == "date" and 0 <= value < _MAX_SERIAL:
        return _date(value, section, date_1904)
    if kind != "number":
        return plain(value)
    return _number(abs(value) if section is not sections[0] else value, section)


def header_text(text: str) -> str:
    """What a sheet's header or footer says, without how it says it."""
    return _HEADER_CODES.sub(" ", text).strip()


def plain(value: float) -> str:
    """The number in at most fifteen digits, as General shows it."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.11g}".upper().replace("E+0", "E+").replace("E-0", "E-")


@lru_cache(maxsize=4096)
def _kind(section: str) -> str:
    if _ELAPSED.search(section):
        return "date"
    bare = _NOT_CODES.sub("", section)
    if "General" in section or not bare.strip() or "@" in bare:
        return "general"
    if re.search(r"(?i)[ymdhs]", bare.replace("E+", "").replace("E-", "")):
        return "date"
    return "number" if re.search(r"[0#?]", bare) else "general"


def _number(value: float, section: str) -> str:
    literal: list[str] = []

    def keep(match: re.Match[str]) -> str:
        literal.append(match[1] or match[2] or match[3] or "")
        return "\x01"

    bare = _LITERAL.sub(keep, section)
    pattern = re.search(r"[0#?,]*[0#?][0#?,.]*(?:E[+-]0+)?(?:\s*[0#?]+/[0-9#?]+)?", bare)
    if pattern is None or "/" in pattern[0]:
        return plain(value)
    digits = pattern[0]
    percent = bare.count("%")
    scaled = value * 100**percent / 1000 ** (len(digits) - len(digits.rstrip(",")))
    digits = digits.rstrip(",")
    whole, _, fraction = digits.partition(".")
    places = len(re.sub(r"[^0#?]", "", fraction.partition("E")[0]))
    if "E" in digits:
        text = f"{scaled:.{places}E}"
    else:
        # half away from zero, as a spreadsheet rounds
        text = f"{abs(scaled) + 10.0 ** -(places + 9):{',' if ',' in whole else ''}.{places}f}"
        optional = len(fraction) - len(fraction.rstrip("#?"))
        while optional and text.endswith("0") and "." in text:
            text, optional = text[:-1], optional - 1
        text = ("-" if scaled < 0 else "") + text.rstrip(".").zfill(whole.count("0"))
    result = bare[: pattern.start()] + text + bare[pattern.end() :]
    parts = iter(literal)
    return re.sub("\x01", lambda _: next(parts), result).strip()


def _date(value: float, section: str, date_1904: bool) -> str:
    if elapsed := _ELAPSED.search(section):
        seconds = round(value * 86400)
        unit = elapsed[1][0].lower()
        if unit == "h":
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{seconds // 60}:{seconds % 60:02}" if unit == "m" else str(seconds)
    # Lotus took 1900 for a leap year, and everybody else took that over.
    base = datetime(1904, 1, 1) if date_1904 else datetime(1899, 12, 30 if value >= 60 else 31)  # noqa: DTZ001
    moment = base + timedelta(seconds=round(value * 86400))
    literal: list[str] = []

    def keep(match: re.Match[str]) -> str:
        literal.append(match[1] or match[2] or "")
        return "\x01"

    tokens = _DATE_TOKEN.findall(_LITERAL.sub(keep, section))
    twelve = any(token.lower() in ("am/pm", "a/p") for token in tokens)
    parts = iter(literal)
    shown_parts: list[str] = []
    after_hour = False
    for index, token in enumerate(tokens):
        kind = token[0].lower()
        if kind == "\x01":
            shown_parts.append(next(parts))
        elif token.lower() in ("am/pm", "a/p"):
            shown_parts.append("PM" if moment.hour >= 12 else "AM")
        elif kind == "y":
            shown_parts.append(f"{moment:%Y}" if len(token) > 2 else f"{moment.year % 100:02}")
        elif kind == "m":
            later = next((t[0].lower() for t in tokens[index + 1 :] if t[0].lower() in "ymdhs"), "")
            if (after_hour or later == "s") and len(token) < 3:
                shown_parts.append(f"{moment.minute:0{len(token)}}")
            elif len(token) < 3:
                shown_parts.append(f"{moment.month:0{len(token)}}")
            else:
                shown_parts.append(f"{moment:%b}" if len(token) == 3 else f"{moment:%B}")
        elif kind == "d":
            names = {3: "%a", 4: "%A"}
            shown_parts.append(
                moment.strftime(names[len(token)])
                if len(token) in names
                else f"{moment.day:0{min(len(token), 2)}}"
            )
        elif kind == "h":
            hour = (moment.hour - 1) % 12 + 1 if twelve else moment.hour
            shown_parts.append(f"{hour:0{min(len(token), 2)}}")
        elif kind == "s":
            shown_parts.append(f"{moment.second:0{min(len(token), 2)}}")
        elif not token.startswith(".0"):
            shown_parts.append(token)
        if kind in "ymdhs":
            after_hour = kind == "h"
    return "".join(shown_parts).strip()
