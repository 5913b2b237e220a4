"""One library in a process of its own, in the environment of ``readers``: a path a line in, a JSON line out.

    python library_reader.py unstructured|kreuzberg|markitdown OCR

OCR is 1 or 0. It imports nothing of ours, because that environment has nothing of ours.
"""

import json
import mimetypes
import os
import re
import sys
import time
from collections.abc import Callable

_SCANS = {".bmp", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}
Read = Callable[[str], str]


def unstructured(ocr: bool) -> Read:
    """``partition`` as it comes, but for two things that it would fetch from the internet: its layout model
    (pictures are read by OCR alone), and spaCy's (tells titles from prose; any tokenizer does)."""
    os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = os.environ["DO_NOT_TRACK"] = os.environ["HF_HUB_OFFLINE"] = (
        "1"
    )
    from unstructured.partition import text_type
    from unstructured.partition.auto import partition

    word, sentence = re.compile(r"\w+|[^\w\s]"), re.compile(r"(?<=[.!?])\s+")
    text_type.word_tokenize, text_type.sent_tokenize = word.findall, sentence.split
    text_type.pos_tag = lambda text: [(found, "NN") for found in word.findall(text)]

    def read(path: str) -> str:
        strategy = "auto" if ocr else "fast"
        if ocr and os.path.splitext(path)[1].lower() in _SCANS:  # noqa: PTH122
            strategy = "ocr_only"
        return "\n".join(element.text for element in partition(path, strategy=strategy) if element.text)

    return read


def kreuzberg(ocr: bool) -> Read:
    """Without its cache, which would answer for files that it has seen."""
    from kreuzberg import ExtractionConfig, OcrConfig, extract_file_sync

    config = ExtractionConfig(use_cache=False, ocr=OcrConfig(backend="tesseract") if ocr else None)

    def read(path: str) -> str:
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        return str(extract_file_sync(path, content_type, config=config).content)

    return read


def markitdown(_: bool) -> Read:
    """It has no OCR without a language model's service."""
    from markitdown import MarkItDown

    converter = MarkItDown(enable_plugins=False)
    return lambda path: str(converter.convert_local(path).text_content)


def main() -> None:
    """Answer until the input ends. What the library prints must not come between: it goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    read = {"unstructured": unstructured, "kreuzberg": kreuzberg, "markitdown": markitdown}[sys.argv[1]](
        sys.argv[2] == "1"
    )
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        started, text, failed = time.monotonic(), "", ""
        try:
            text = read(line.rstrip("\n"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - one file's failure; a Rust panic is no Exception
            failed = type(error).__name__
        answer = {"text": text, "failed": failed, "seconds": time.monotonic() - started}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
