"""The languages of the mail, by the codes that tesseract uses, and what follows from them elsewhere."""

from collections.abc import Sequence

DEFAULT_LANGUAGES = ("eng",)

# Elasticsearch's language analyzers.
_ANALYZERS = {
    "ara": "arabic",
    "bul": "bulgarian",
    "cat": "catalan",
    "ces": "czech",
    "dan": "danish",
    "deu": "german",
    "ell": "greek",
    "eng": "english",
    "fas": "persian",
    "fin": "finnish",
    "fra": "french",
    "hin": "hindi",
    "hun": "hungarian",
    "ita": "italian",
    "lav": "latvian",
    "lit": "lithuanian",
    "nld": "dutch",
    "nor": "norwegian",
    "por": "portuguese",
    "ron": "romanian",
    "rus": "russian",
    "spa": "spanish",
    "swe": "swedish",
    "tha": "thai",
    "tur": "turkish",
}
# Written without spaces: words are found as pairs of characters.
_CJK = ("chi_", "jpn", "kor")


def analyzer_for(languages: Sequence[str]) -> str:
    """The analyzer for an index of these languages. One without spaces decides, because no other analyzer
    finds its words, and ``cjk`` finds those of the others too; else the first one does."""
    if any(language.startswith(_CJK) for language in languages):
        return "cjk"
    return _ANALYZERS.get(languages[0], "standard")


def ocr_languages(languages: Sequence[str]) -> str:
    """What tesseract is given: those without spaces first, because it finds them after no other."""
    return "+".join(sorted(languages, key=lambda language: not language.startswith(_CJK)))


def is_english(languages: Sequence[str]) -> bool:
    """Whether an English model understands all of them."""
    return all(language == "eng" for language in languages)


def ocr_package(language: str) -> str:
    """The Debian package that teaches tesseract the language."""
    return f"tesseract-ocr-{language.lower().replace('_', '-')}"
