"""The piece of a text that shows why it was found, with its words marked."""

import re
from collections.abc import Iterable

from schemas.words import stems
from search.results import MARK_END, MARK_START

SNIPPET_CHARACTERS = 240
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’-][^\W_]+)*")


def snippet(text: str, wanted: Iterable[str]) -> str:
    """The stretch of ``text`` with the most different stems of ``wanted``, in one line, with them marked."""
    line = " ".join(text.split())
    stems_wanted = frozenset(wanted)
    # Cutting words to their stems is what takes time, and a plain word begins like its stem.
    beginnings = re.compile("|".join(map(_beginning, stems_wanted)), re.IGNORECASE)
    found = [
        (word.start(), word.end(), stem)
        for word in _WORD.finditer(line)
        if beginnings.match(word[0]) or not (word[0].isascii() and word[0].isalnum())
        for stem in sorted(stems_wanted.intersection(stems(word[0])))[:1]
    ]
    start = _best_start(found)
    start = line.rfind(" ", 0, start) + 1 if start < len(line) else 0
    end = start + SNIPPET_CHARACTERS
    if end < len(line):
        end = max(line.rfind(" ", start, end), start + SNIPPET_CHARACTERS // 2)
    pieces, position = [], start
    for word_start, word_end, _ in found:
        if word_start >= start and word_end <= end:
            marked = f"{MARK_START}{line[word_start:word_end]}{MARK_END}"
            pieces += [line[position:word_start], marked]
            position = word_end
    return "".join([*pieces, line[position:end]])


def _beginning(stem: str) -> str:
    """What all words of a stem begin with: try, tries; hop, hoped; but dying, die."""
    return re.escape(stem[:-1] if len(stem) > 3 else stem[:1])


def _best_start(found: list[tuple[int, int, str]]) -> int:
    """Where the window with the most different words begins, a little before the first of them."""
    best, best_count = 0, 0
    for number, (start, _, _) in enumerate(found):
        within = {stem for _, end, stem in found[number:] if end <= start + SNIPPET_CHARACTERS * 3 // 4}
        if len(within) > best_count:
            best, best_count = start, len(within)
    return max(0, best - SNIPPET_CHARACTERS // 4)
