"""Text as the words that are matched: in lower case, without accents, cut to their stems.

The same on every server (small ones have no language analyzers) and on both sides: the index worker writes
what ``stemmed`` gives into fields that are split at spaces, the query side asks for ``query_stems``.
"""

import re
import unicodedata
from functools import lru_cache

import Stemmer

# Numbers with their points and commas, single ideographs (nobody puts spaces between them), and words.
_WORD = re.compile(
    r"\d+(?:[.,]\d+)+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+"
)
# Letters are folded one by one; in short pieces, which are remembered.
_FOREIGN = re.compile(r"[^\x00-\x7f]{1,32}")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
# A novel's length: up to here phrases are matched, and how often a word stands counts.
WHOLE_CHARACTERS = 2_000_000
# Longer "words" are base64 or the like; nobody types them.
_MAX_CHARACTERS = 64

# English words that say nothing about what a text is about. They are indexed (for phrases), not asked for.
_STOP_WORDS = """
a about above after again against all also am among an and any are as at be because been before
being below between both but by can could d did do does doing don down during each either few
for from further had has have having he her here hers him his how i if in into is it its just ll
m may me might more most must my neither no nor not now of off on once only or other ought our
ours out over own per re s same shall she should so some such t than that the their theirs them
then there these they this those through thus to too under until up upon ve very was we were
what when where whether which while who whom whose why will with within would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def words(text: str) -> list[str]:
    """The words of a text, folded, in order."""
    plain = _FOREIGN.sub(lambda found: _folded(found[0]), text.lower())
    return [
        word.replace(",", "") if "," in word and _THOUSANDS.fullmatch(word) else word
        for word in _WORD.findall(plain)
        if len(word) <= _MAX_CHARACTERS
    ]


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order."""
    stemmed_words: list[str] = _stemmer().stemWords(words(text))
    return stemmed_words


def stemmed(text: str) -> str:
    """What the index stores of a text for matching: its stems, with spaces between them.

    Of what lies beyond WHOLE_CHARACTERS each stem that is new: it is found by all of its words, and within
    what a server takes.
    """
    kept = stems(text[:WHOLE_CHARACTERS])
    if len(text) > WHOLE_CHARACTERS:
        known = set(kept)
        kept += dict.fromkeys(stem for stem in stems(text[WHOLE_CHARACTERS:]) if stem not in known)
    return " ".join(kept)


def query_stems(text: str) -> list[str]:
    """The stems of a question's words that say something; of all its words where none does."""
    telling = [word for word in words(text) if word not in STOP_WORDS]
    stemmed_words: list[str] = _stemmer().stemWords(telling or words(text))
    return stemmed_words


@lru_cache(maxsize=1 << 14)
def _folded(letters: str) -> str:
    """Without accents, ligatures and widths. Texts say the same words again and again."""
    decomposed = unicodedata.normalize("NFKD", letters.replace("ß", "ss"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")
