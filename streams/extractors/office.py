"""DOCX, PPTX and XLSX through unstructured, with the page, slide or sheet that each text stands on."""

import io
import os
import re
import sys
import types
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

from schemas.outcomes import Outcome
from streams.extractors.result import Document, ExtractionError

_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
# Office files are zips of XML; these caps stop one that unpacks to a disk full of spaces.
_MAX_XML_RATIO = 400


def _without_language_model() -> None:
    """Give unstructured tokenizers of ours.

    It asks spaCy only whether a paragraph is a title or prose, which nobody here needs to know, and would
    fetch a model from the internet for it. The stand-in also keeps torch, which spaCy imports, out of the
    parser processes: 187 MB instead of 731 MB, 2.5 s to start instead of 7 s.
    """
    if "unstructured.partition.text_type" in sys.modules:
        return
    stand_in, language, tokens = (types.ModuleType(f"spacy{part}") for part in ("", ".language", ".tokens"))
    language.Language = tokens.Doc = object  # type: ignore[attr-defined]
    stand_in.language, stand_in.tokens = language, tokens  # type: ignore[attr-defined]
    placed = {module.__name__: module for module in (stand_in, language, tokens)}
    missing = {name: module for name, module in placed.items() if name not in sys.modules}
    sys.modules.update(missing)
    from unstructured.partition import text_type

    for name in missing:
        del sys.modules[name]
    hooks = {
        "word_tokenize": _WORD.findall,
        "sent_tokenize": _SENTENCE.split,
        "pos_tag": lambda text: [(word, "NN") for word in _WORD.findall(text)],
    }
    for name, hook in hooks.items():
        setattr(text_type, name, hook)


# Neither advertisements nor telemetry from inside a parser.
os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = "1"
os.environ["SCARF_NO_ANALYTICS"] = os.environ["DO_NOT_TRACK"] = "true"
_without_language_model()

from unstructured.partition.docx import partition_docx  # noqa: E402
from unstructured.partition.pptx import partition_pptx  # noqa: E402
from unstructured.partition.xlsx import partition_xlsx  # noqa: E402

# An encrypted office file is an OLE container with a stream of this name ([MS-OFFCRYPTO] 2.3.4).
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def extract_ole(document: Document) -> None:
    """DOC, XLS, PPT, MSG and encrypted office files. Reads none of them: raises ExtractionError."""
    encrypted = _ENCRYPTED_PACKAGE in document.payload
    raise ExtractionError(Outcome.ENCRYPTED if encrypted else Outcome.UNSUPPORTED)


def extract_docx(document: Document) -> None:
    """Paragraphs, tables, headers and footers. Raises ExtractionError."""
    elements = _partition(document, partition_docx, infer_table_structure=False)
    _emit(document, elements, lambda metadata: metadata.page_number, lambda _: None)


def extract_pptx(document: Document) -> None:
    """Slides with their notes. Raises ExtractionError."""
    elements = _partition(document, partition_pptx, include_slide_notes=True, infer_table_structure=False)
    _emit(
        document,
        elements,
        lambda metadata: metadata.page_number,
        lambda metadata: f"slide {metadata.page_number}",
    )


def extract_xlsx(document: Document) -> None:
    """Sheets, row by row. Raises ExtractionError."""
    elements = _partition(document, partition_xlsx, infer_table_structure=False, find_subtable=False)
    _emit(
        document,
        elements,
        lambda metadata: metadata.page_number,
        lambda metadata: f"sheet {metadata.page_name}",
    )


def _partition(document: Document, partition: Callable[..., list[Any]], **options: Any) -> list[Any]:
    document.used("unstructured")
    _check_archive(document)
    _facts(document)
    try:
        elements: list[Any] = partition(
            file=io.BytesIO(document.payload), languages=[""], detect_language_per_element=False, **options
        )
    except ValueError as error:
        # python-docx and python-pptx read no templates and no files with macros.
        if "content type is" in str(error):
            raise ExtractionError(Outcome.UNSUPPORTED) from error
        raise
    return elements


def _check_archive(document: Document) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(document.payload)) as archive:
            for entry in archive.infolist():
                document.budget.unpack(entry.file_size)
                if entry.file_size > _MAX_XML_RATIO * max(entry.compress_size, 1024):
                    raise ExtractionError(Outcome.LIMIT_EXCEEDED)
                if entry.flag_bits & 1:
                    raise ExtractionError(Outcome.ENCRYPTED)
    except zipfile.BadZipFile as error:
        raise ExtractionError(Outcome.CORRUPT) from error


def _facts(document: Document) -> None:
    from lxml import etree

    names = {"title": "title", "creator": "author", "created": "created"}
    with zipfile.ZipFile(io.BytesIO(document.payload)) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        root = etree.fromstring(archive.read("docProps/core.xml"), parser)
    for node in root:
        fact = names.get(etree.QName(node).localname) if isinstance(node.tag, str) else None
        if fact and node.text and node.text.strip():
            document.facts[fact] = node.text.strip()


def _emit(
    document: Document,
    elements: Iterable[Any],
    page_of: Callable[[Any], int | None],
    label_of: Callable[[Any], str | None],
) -> None:
    """Emit the elements of a place together: a chunk should hold more than one bullet point."""
    place: tuple[int | None, str | None] = (None, None)
    texts: list[str] = []
    last_page = 0
    for element in elements:
        here = (page_of(element.metadata), label_of(element.metadata))
        if here != place and texts:
            document.text("\n".join(texts), page=place[0], label=place[1])
            texts = []
        place = here
        last_page = max(last_page, here[0] or 0)
        if element.text:
            texts.append(element.text)
    if texts:
        document.text("\n".join(texts), page=place[0], label=place[1])
    if last_page:
        document.facts["pages"] = last_page
