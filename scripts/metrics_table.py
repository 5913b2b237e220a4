"""Prints docs/METRICS.md: ``python scripts/metrics_table.py > docs/METRICS.md``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from connectors.metrics import DECLARED, LABELS

HEAD = """# Metrics

Made by `.venv/bin/python scripts/metrics_table.py > docs/METRICS.md` out of `connectors/metrics.py`.

Each process serves its own on METRICS_PORT, `worker all` those of its five processes on five ports in a row.
The alerts stand in `helm/files/alerts.yaml`, what to do about them in [RUNBOOK.md](RUNBOOK.md).
"""


def metrics_page() -> str:
    """The page."""
    rows = ["| name | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    for metric in DECLARED:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |")
    values = ["| label | what stands in it |", "|---|---|"]
    values += [f"| `{name}` | {meaning} |" for name, meaning in LABELS.items()]
    return "\n".join([HEAD, *rows, "", *values]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
