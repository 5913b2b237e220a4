"""What a mail says itself: without the replies it quotes and without its signature.

Only this is embedded, so that one sentence does not pull up the whole thread that quotes it; what is shown
and found by words is the text as it stands. Forwarded mail is kept: to its receiver it is new.
"""

import re

# "On Mon, 3 Nov 2025, Bob wrote:" in one line, or broken into two or three by a mail client.
_ATTRIBUTION = re.compile(
    r"(?:On|Am|Le|El|Il|Op)\s.{3,300}\s(?:wrote|schrieb|a écrit|escribió|ha scritto|schreef)\b.{0,200}:\s*"
)
_ATTRIBUTION_LINES = 3
_ORIGINAL = re.compile(r"[-_\s]*(?:Original Message|Original-Nachricht|Ursprüngliche Nachricht)[-_\s]*", re.I)
_RULE = re.compile(r"_{20,}|-{20,}")
# The block of headers that Outlook writes above what it quotes; two of the lines below the first confirm it.
_FROM = re.compile(r"\*?(?:From|Von|De)\*?:\s?.+")
_HEADER = re.compile(r"\*?(?:Sent|Date|To|Cc|Subject|Gesendet|Datum|An|Betreff|Envoyé|À|Objet)\*?:")
_HEADER_LINES = 6
_SIGNATURE = re.compile(
    r"--\s?|(?:Sent from my|Get Outlook for|Von meinem|Gesendet von|Diese Nachricht wurde von)\s.*"
)
_CLOSING = re.compile(
    r"(?:(?:kind |best |warm |many )?(?:regards|wishes)|(?:many )?thanks|cheers|sincerely|yours \w+"
    r"|(?:mit )?(?:freundlichen?|besten?|herzlichen?|lieben?|vielen?|schönen?) gr(?:ü|ue)(?:ß|ss)en?"
    r"(?: aus \w+)?"
    r"|mfg|lg|vg|hochachtungsvoll)\s*[,.!]?",
    re.I,
)
# A closing formula begins a signature only where little follows it: names, a telephone number, a title.
_SIGNATURE_LINES = 12
_SIGNATURE_LINE_CHARACTERS = 80
_LONGEST_LINE_CHARACTERS = 400  # what is longer is a paragraph, and none of the above


def own_words(text: str) -> str:
    """The text without quoted replies and signature; all of it where nothing else would be left."""
    lines = text.splitlines()
    kept: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position].strip()
        if line.startswith(">"):
            position += 1
            continue
        after = _after_attribution(lines, position)
        if after is not None:
            # Where what follows is marked as quoted, answers may stand between it; else all of it is quoted.
            if _next_text(lines, after).startswith(">"):
                position = after
                continue
            break
        if _begins_quote(lines, position):
            break
        kept.append(lines[position])
        position += 1
    own = "\n".join(kept[: _signature_start(kept)]).strip()
    return own or text.strip()


def _after_attribution(lines: list[str], position: int) -> int | None:
    """The line behind the "so and so wrote" that begins here; None where none does."""
    if not lines[position].lstrip().startswith(("On ", "Am ", "Le ", "El ", "Il ", "Op ")):
        return None
    for count in range(1, _ATTRIBUTION_LINES + 1):
        joined = " ".join(line.strip() for line in lines[position : position + count])
        if len(joined) > _LONGEST_LINE_CHARACTERS:
            return None
        if _ATTRIBUTION.fullmatch(joined):
            return position + count
    return None


def _begins_quote(lines: list[str], position: int) -> bool:
    line = lines[position].strip()
    if len(line) > _LONGEST_LINE_CHARACTERS:
        return False
    if _ORIGINAL.fullmatch(line):
        return True
    if _RULE.fullmatch(line):
        return _begins_headers(lines, position + 1)
    return _begins_headers(lines, position)


def _begins_headers(lines: list[str], position: int) -> bool:
    if position >= len(lines) or not _FROM.fullmatch(lines[position].strip()[:_LONGEST_LINE_CHARACTERS]):
        return False
    below = lines[position + 1 : position + 1 + _HEADER_LINES]
    return sum(_HEADER.match(line.strip()) is not None for line in below) >= 2


def _next_text(lines: list[str], position: int) -> str:
    return next((line for at in range(position, len(lines)) if (line := lines[at].strip())), "")


def _signature_start(lines: list[str]) -> int:
    """Where the signature begins: at a line that says so, or at a closing formula near the end."""
    for position, line in enumerate(lines):
        stripped = line.strip()[:_LONGEST_LINE_CHARACTERS]
        if _SIGNATURE.fullmatch(stripped):
            return position
        rest = lines[position + 1 : position + 2 + _SIGNATURE_LINES]
        if (
            _CLOSING.fullmatch(stripped)
            and position + 1 + len(rest) == len(lines)
            and len(rest) <= _SIGNATURE_LINES
            and all(len(other.strip()) <= _SIGNATURE_LINE_CHARACTERS for other in rest)
        ):
            return position
    return len(lines)
