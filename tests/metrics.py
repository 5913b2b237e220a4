"""What the processes of a pipeline say of themselves, read over the whole run."""

import threading
import urllib.request
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from cli.pipeline import Pipeline

POLL_SECONDS = 0.3


class Collected:
    """Asks every process for its metrics again and again; a context."""

    def __init__(self, running: Pipeline) -> None:
        self._running = running
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self.changed: set[str] = set()  # names of metrics that were seen with anything but 0
        self.labels: dict[str, set[str]] = {}  # values by label
        self.texts: dict[str, str] = {}  # the last answer of each process

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _collect(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            for name, port in list(self._running.metrics_ports.items()):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                        text = answer.read().decode()
                except OSError:  # not yet, or not any more
                    continue
                self._take(name, text)

    def _take(self, process: str, text: str) -> None:
        self.texts[process] = text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.value:
                    base = sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
                    self.changed.add(base)
                for label, value in sample.labels.items():
                    self.labels.setdefault(label, set()).add(value)
