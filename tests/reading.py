"""Documents through the real engine or a reader alone, and what came out, for the tests of formats."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.outcomes import Outcome
from streams.ephemeral import AttachmentResult, EngineConfig, EphemeralAttachmentHandler
from streams.extractors.limits import Limits
from streams.extractors.registry import extract
from streams.extractors.result import Budget, Document

SENTENCE = "the quay wall leans seven millimetres"
Configured = Callable[[EngineConfig], EphemeralAttachmentHandler]


def files_in(directory: Path) -> list[Path]:
    """What is left there, and below."""
    return [path for path in directory.rglob("*") if not path.is_dir()]


@dataclass(frozen=True, slots=True)
class Read:
    """An attachment's results: the text of all its documents, and each by its part path ("" for itself)."""

    root: AttachmentResult
    by_path: dict[str, AttachmentResult]

    @property
    def text(self) -> str:
        return " ".join(" ".join(result.text for result in self.root.walk()).split())

    @property
    def outcomes(self) -> list[Outcome]:
        return [result.outcome for result in self.root.walk()]

    @property
    def names(self) -> list[str | None]:
        return [result.metadata.filename for result in self.root.walk()][1:]


async def result_of(
    engine: EphemeralAttachmentHandler,
    payload: bytes,
    name: str = "file",
    kind: str | None = None,
    ocr: bool = True,
) -> AttachmentResult:
    return await engine.process_attachment(payload, kind, filename=name, ocr=ocr)


async def read(
    engine: EphemeralAttachmentHandler,
    payload: bytes,
    name: str | None = None,
    kind: str | None = None,
    ocr: bool = False,
) -> Read:
    result = await engine.process_attachment(payload, kind, filename=name, ocr=ocr)
    return Read(result, {"/".join(map(str, item.path)): item for item in result.walk()})


def extracted(
    payload: bytes, filename: str | None = None, limits: Limits | None = None
) -> list[dict[str, Any]]:
    """What a reader emits in this very process, without OCR."""
    records: list[dict[str, Any]] = []
    extract(
        Document(
            path=(),
            payload=payload,
            declared_content_type=None,
            filename=filename,
            charset=None,
            ocr=False,
            budget=Budget(limits or Limits()),
            emit=records.append,
        )
    )
    return records
