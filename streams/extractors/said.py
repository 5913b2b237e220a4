"""What has been said of a document already: a second reader adds only what the first one missed."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\w+")
# Each takes as long as the text is; beyond these a line is new unless it has been said as a line.
_MAX_SEARCHES = 20_000


class Said:
    """The words of a document in their order."""

    def __init__(self) -> None:
        self._lines: set[str] = set()
        self._text = " "
        self._searches = 0

    def add(self, text: str) -> None:
        """Take in a text of any number of lines."""
        words = " ".join(_TOKEN.findall(text))
        self._lines.update(" ".join(_TOKEN.findall(line)) for line in text.splitlines())
        self._text += words + " "

    def is_new(self, line: str) -> bool:
        """Whether these words do not stand there in this order. A line is new once."""
        words = " ".join(_TOKEN.findall(line))
        if not words:
            return not self._text.strip() and bool(line.strip())
        if words in self._lines:
            return False
        self._searches += 1
        if self._searches <= _MAX_SEARCHES and f" {words} " in self._text:
            return False
        self._lines.add(words)
        return True
