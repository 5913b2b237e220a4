"""What has been said of a document already: a second reader adds only what the first one missed."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\w+")


class Said:
    """The words of a document in their order."""

    def __init__(self) -> None:
        self._lines: set[str] = set()
        self._text = " "

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
        if words in self._lines or f" {words} " in self._text:
            return False
        self._lines.add(words)
        return True
