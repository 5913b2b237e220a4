"""unstructured, the first reader of DOCX and PPTX: text with the page or slide it stands on."""

import io
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from streams.extractors.result import Document

_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def _without_language_model() -> None:
    """Give unstructured tokenizers of ours, and nothing to tell titles and languages by.

    It asks only whether a paragraph is a title or prose, and in which language, which nobody here needs to
    know; it would fetch spaCy's model from the internet for that. Stand-ins also keep torch, which spaCy
    imports, and lists of languages, words and characters out of the parser processes.
    """
    if "unstructured.partition.text_type" in sys.modules:
        return
    contents: dict[str, dict[str, Any]] = {
        "spacy": {},
        "spacy.language": {"Language": object},
        "spacy.tokens": {"Doc": object},
        "iso639": {},
        "unstructured.nlp.english_words": {"ENGLISH_WORDS": frozenset()},
    }
    missing = {name: types.ModuleType(name) for name in contents if name not in sys.modules}
    for name, module in missing.items():
        vars(module).update(contents[name])
    sys.modules.update(missing)
    _import_cleaners()
    from unstructured.partition import text_type
    from unstructured.partition.common import lang  # noqa: F401 - while iso639 is another's

    for name in missing:
        del sys.modules[name]
    hooks = {
        "word_tokenize": _WORD.findall,
        "sent_tokenize": _SENTENCE.split,
        "pos_tag": lambda text: [(word, "NN") for word in _WORD.findall(text)],
    }
    for name, hook in hooks.items():
        setattr(text_type, name, hook)


def _import_cleaners() -> None:
    """Their table of all punctuation takes half a second, for the question of titles again."""
    import numpy  # noqa: F401 - what they import sees the real number
    import unstructured.file_utils.encoding
    import unstructured.nlp.patterns

    characters, sys.maxunicode = sys.maxunicode, 0
    try:
        import unstructured.cleaners.core  # noqa: F401
    finally:
        sys.maxunicode = characters


# Neither advertisements nor telemetry from inside a parser.
os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = "1"
os.environ["SCARF_NO_ANALYTICS"] = os.environ["DO_NOT_TRACK"] = "true"
_without_language_model()

from unstructured.partition.docx import partition_docx  # noqa: E402
from unstructured.partition.pptx import partition_pptx  # noqa: E402

_MARGINS = {"Header": "header", "Footer": "footer"}
# What unstructured calls the place of an element, by its partition function.
_PARTITIONS: dict[str, tuple[Callable[..., list[Any]], dict[str, Any], Callable[[Any], str | None]]] = {
    "word": (partition_docx, {}, lambda element: _MARGINS.get(element.category)),
    "slides": (
        partition_pptx,
        {"include_slide_notes": True},
        lambda element: f"slide {element.metadata.page_number}",
    ),
}


def partition(document: Document, kind: str) -> list[str]:
    """Emit what unstructured reads of a ``word`` or ``slides`` file; returns the same texts. Of
    what it cannot read (templates, macro files, damaged ones) it reads nothing."""
    function, options, label_of = _PARTITIONS[kind]
    try:
        elements = function(
            file=io.BytesIO(document.payload),
            languages=[""],
            detect_language_per_element=False,
            infer_table_structure=False,
            **options,
        )
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - it raises whatever the libraries below it raise; another pass follows
        return []
    document.used("unstructured")
    return list(_emit(document, elements, label_of))


def _emit(
    document: Document, elements: Iterable[Any], label_of: Callable[[Any], str | None]
) -> Iterator[str]:
    """Emit the elements of a place together: a chunk should hold more than one bullet point."""
    last_page = 0
    places = groupby(elements, lambda element: (element.metadata.page_number, label_of(element)))
    for (page, label), together in places:
        text = "\n".join(element.text for element in together if element.text)
        document.text(text, page=page, label=label)
        last_page = max(last_page, page or 0)
        yield text
    if last_page:
        document.facts["pages"] = last_page
