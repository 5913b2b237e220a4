"""The attachment engine against Tika's server, unstructured, kreuzberg and markitdown, on the same files.

    python -m benchmarks extraction --corpus DIR [--ocr on|off|both] [--sample N] [--write]

All run beside each other, and two files at a time each. The files are shuffled and dealt into rounds; in each
round every reader reads the same files, one reader after the other, so that whatever else this machine does
meanwhile slows all of them alike; each begins when what the one before left to do behind its answers (a JVM
compiles and collects on) is done. No reader reads a file twice, no cache is on, and what starting takes
(importing, a JVM) is not counted. Without OCR there are five such sittings, each with readers started anew.
Recall is over the set of a file's words, lower case, averaged over the files in which the other has any:
against Tika's text of the same run, and, with ``--truth``, against DIR/NAME.txt.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

from benchmarks import command, pages
from benchmarks.footprint import Footprint
from benchmarks.readers import LIBRARIES, Engine, Library, Reader, Reading, TikaServer, summed
from benchmarks.recall import once, recall, tokens

ROUNDS = 5
# How often all is read, each time by readers started anew: without OCR the engine is done in a second and a
# half, and another sitting may take it a fifth longer.
SITTINGS = {"off": 5, "on": 1}
SEED = 12
CORES = 2
REST_SECONDS = 5.0  # at most, before a reader's turn
OURS, THEIRS = Engine.name, TikaServer.name


@dataclass
class Result:
    """What one reader made of the files, the last time; its files and seconds are those of all sittings."""

    readings: dict[Path, Reading] = field(default_factory=dict)
    files: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    memory_mib: float = 0.0
    start_seconds: float = 0.0

    def files_per_second(self) -> float:
        return self.files / self.seconds


def measure(files: Sequence[Path], *, ocr: bool, names: Sequence[str]) -> dict[str, Result]:
    """Results by reader's name."""
    results = {name: Result() for name in (OURS, THEIRS, *names)}
    asked = "on" if ocr else "off"
    for sitting in range(SITTINGS[asked]):
        about = f"OCR {asked}, sitting {sitting + 1} of {SITTINGS[asked]}"
        _sit(files, [Engine(ocr), TikaServer(ocr), *(Library(name, ocr) for name in names)], results, about)
    return results


def _sit(files: Sequence[Path], readers: Sequence[Reader], results: Mapping[str, Result], about: str) -> None:
    """Start the readers, have each read all files, and add to its result."""
    dealt = list(files)
    random.Random(SEED).shuffle(dealt)
    with contextlib.ExitStack() as stack:
        footprints = {}
        for reader in readers:
            started = time.monotonic()
            stack.enter_context(reader)
            results[reader.name].start_seconds = time.monotonic() - started
            footprints[reader.name] = Footprint(reader.processes, partial(_others, reader, readers))
        for number in range(ROUNDS):
            for reader in command.turned(readers, number):
                command.progress(f"{about}, round {number + 1} of {ROUNDS}: {reader.name}")
                result = results[reader.name]
                _rest()
                with footprints[reader.name]:
                    started = time.monotonic()
                    readings = reader.read(dealt[number::ROUNDS])
                    result.seconds += time.monotonic() - started
                result.readings |= readings
                result.files += len(readings)
        for name, footprint in footprints.items():
            results[name].memory_mib = max(results[name].memory_mib, footprint.memory_mib)
            results[name].processor_seconds += footprint.processor_seconds


def mean_recall(readings: Mapping[Path, Reading], wanted: Mapping[Path, str]) -> float:
    """Over the files in which something is wanted."""
    found = [
        recall(once(tokens(text)), once(tokens(readings[file].text)))
        for file, text in wanted.items()
        if tokens(text)
    ]
    return fmean(part for part in found if part is not None) if found else float("nan")


def rows(results: Mapping[str, Result], truth: Mapping[Path, str]) -> list[dict[str, object]]:
    """One line a reader, the fastest of the competitors last."""
    theirs = results[THEIRS]
    reference = {file: reading.text for file, reading in theirs.readings.items()}
    total_bytes = sum(file.stat().st_size for file in reference)
    lines = []
    for name, result in results.items():
        line: dict[str, object] = {
            "reader": name,
            "files/s": round(result.files_per_second(), 2),
            "× Tika": round(result.files_per_second() / theirs.files_per_second(), 2),
            "MB/s": round(total_bytes / 1e6 * result.files / len(reference) / result.seconds, 2),
            "processor s": round(result.processor_seconds, 1),
            "recall of Tika's words": round(mean_recall(result.readings, reference), 3),
        }
        if truth:
            line["recall of the truth"] = round(mean_recall(result.readings, truth), 3)
        line |= {
            "most memory, MiB": round(result.memory_mib),
            "start, s": round(result.start_seconds, 1),
            "outcomes": summed(list(result.readings.values())),
        }
        lines.append(line)
    return lines


def slowest(results: Mapping[str, Result], count: int) -> str:
    """The files that took the engine longest, beside what they took Tika."""
    ours, theirs = results[OURS].readings, results[THEIRS].readings
    files = sorted(ours, key=lambda file: -ours[file].seconds)[:count]
    head = ("file", "mailstream, s", "Tika, s", "recall")
    return pages.table(
        head,
        [
            (
                file.name,
                f"{ours[file].seconds:.2f}",
                f"{theirs[file].seconds:.2f}",
                f"{mean_recall(ours, {file: theirs[file].text}):.3f}",
            )
            for file in files
        ],
    )


def _rest() -> None:
    """Wait until the processors do next to nothing."""
    ends = time.monotonic() + REST_SECONDS
    spent = _busy_seconds()
    while time.monotonic() < ends:
        time.sleep(0.2)
        before, spent = spent, _busy_seconds()
        if spent - before < 0.02:
            return


def _busy_seconds() -> float:
    """Of all processors together since they started (see proc(5), /proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _others(reader: Reader, readers: Sequence[Reader]) -> list[int]:
    """The engine runs in this process, whose children are the other readers, too."""
    return [
        pid for other in readers if other is not reader for pid in other.processes() if pid != os.getpid()
    ]


def write(measured: Mapping[bool, Sequence[Mapping[str, object]]], about: str) -> None:
    """docs/performance/extraction.md and its picture."""
    picture = pages.Picture(len(measured))
    parts = [
        f"`python -m benchmarks extraction --corpus DIR --write`: {about}",
        "All readers run beside each other and read two files at a time, each file once, in rounds: what else"
        " the machine does slows all of them alike. Starting is not counted, caches are off. Recall: of the"
        " set of a file's words, lower case, averaged over the files in which Tika found any in that run.",
    ]
    for place, (ocr, lines) in enumerate(measured.items()):
        title = f"OCR {'on' if ocr else 'off'}"
        parts += [f"## {title}", pages.table(list(lines[0]), [list(line.values()) for line in lines])]
        speeds = {str(line["reader"]): float(str(line["files/s"])) for line in lines}
        picture.bars(place, title, speeds, "files/s")
    picture.save("extraction")
    pages.write_page("extraction", "Extraction", parts)


def main() -> None:
    """Measure, print, and write where that is asked for."""
    parser = command.parser(__doc__, "extraction")
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of files")
    parser.add_argument("--truth", type=Path, help="a folder with NAME.txt for files whose words are known")
    parser.add_argument("--ocr", choices=("on", "off", "both"), default="both")
    parser.add_argument("--sample", type=int, help="so many files of the corpus, picked by chance")
    parser.add_argument("--only", nargs="*", choices=LIBRARIES, default=LIBRARIES, help="beside Tika")
    parser.add_argument("--slowest", type=int, default=0, help="also list the files that took us longest")
    options = parser.parse_args()
    files = sorted(path for path in options.corpus.rglob("*") if path.is_file())
    if not files:
        parser.error(f"{options.corpus} holds no files")
    if options.sample is not None:
        files = sorted(random.Random(SEED).sample(files, min(options.sample, len(files))))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # what is started inherits it
    about = (
        f"{len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB, {pages.machine()}."
    )
    print(about)
    truth = _truth(files, options.truth)
    measured = {}
    for ocr in {"on": [True], "off": [False], "both": [False, True]}[options.ocr]:
        results = measure(files, ocr=ocr, names=options.only)
        lines = measured[ocr] = rows(results, truth)
        print(f"\nOCR {'on' if ocr else 'off'}\n")
        print(pages.table(list(lines[0]), [list(line.values()) for line in lines]), flush=True)
        if options.slowest:
            print(slowest(results, options.slowest), flush=True)
    if options.write:
        write(measured, about)
    if options.json:
        command.print_json({"ocr" if ocr else "no_ocr": lines for ocr, lines in measured.items()})


def _truth(files: Sequence[Path], directory: Path | None) -> dict[Path, str]:
    if directory is None:
        return {}
    texts = {file: directory / f"{file.name}.txt" for file in files}
    return {file: text.read_text() for file, text in texts.items() if text.exists()}


if __name__ == "__main__":
    main()
