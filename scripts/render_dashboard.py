"""Draws docs/dashboard.png: the sample mailbox on its way, watched by a real Prometheus, panel by panel.

``.venv/bin/python scripts/render_dashboard.py --minutes 5``. Grafana is in no package registry: the panels'
own queries are asked of Prometheus (which ``make setup`` unpacks), and Pillow draws the answers.
"""

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cli.pipeline import Pipeline  # noqa: E402 - found by the line above
from devstack.local import free_ports  # noqa: E402
from devstack.sample.mailbox import write_sample_mailbox  # noqa: E402
from devstack.stack import start_stack  # noqa: E402
from tests.commands import command  # noqa: E402

DASHBOARD, PICTURE = ROOT / "helm/files/dashboard.json", ROOT / "docs/dashboard.png"
STEP_SECONDS = 5
PROCESSES = ("source", "extract", "slow", "index", "reap", "serve")
# A demo lasts minutes: rates are taken over less than on a deployment's dashboard.
WINDOWS = {"[5m]": "[30s]", "[1h]": "[10m]"}
QUERIES = ("penalty", "invoice march", "pump", "from:helen contract", "NV-88-3120", "quality report")
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#c8f2c2", "#ffa6b0")
WIDTH, HEIGHT, ROW_HEIGHT, COLUMNS = 560, 250, 34, 3
Lines = list[tuple[str, list[tuple[float, float]]]]


def main() -> None:
    """Run the sample mailbox, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--encoder", default="minilm")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailstream-dashboard-") as name, start_stack() as servers:
        directory = Path(name)
        write_sample_mailbox(directory / "sample.mbox")
        [serve_port] = free_ports(1)
        with Pipeline(
            servers.kafka_bootstrap,
            servers.elasticsearch_url,
            [directory / "sample.mbox"],
            directory,
            encoder=given.encoder,
            quota="new",
            also={"SERVE_PORT": str(serve_port)},
            metrics=True,
        ) as running:
            running.start(*PROCESSES)
            with prometheus(running, directory) as address:
                started = time.time()
                search(running, serve_port, started + given.minutes * 60)
                draw(address, started, time.time())


def search(running: Pipeline, port: int, until: float) -> None:
    """Somebody asks something every second."""
    code, output, errors = command(running, "token", "create", "dashboard", "--all-mailboxes", "--json")
    assert code == 0, errors
    headers = {"Authorization": f"Bearer {json.loads(output)['token']}"}
    while time.time() < until:
        running.check()
        query = urllib.parse.quote(random.choice(QUERIES))
        url = f"http://127.0.0.1:{port}/api/v1/search?q={query}"
        with suppress(OSError):  # the first seconds, until the model is loaded
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30).read()
        time.sleep(1)


@contextmanager
def prometheus(running: Pipeline, directory: Path) -> Iterator[str]:
    """A Prometheus that asks the processes, with our alerts; its address."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    program = shutil.which("prometheus", path=f"{os.environ['PATH']}:{cache}/mailstream/prometheus/usr/bin")
    assert program, "there is no prometheus: run `make setup`, or install Debian's package prometheus"
    [port] = free_ports(1)
    targets = [
        {"targets": [f"127.0.0.1:{running.metrics_ports[name]}"], "labels": {"instance": name}}
        for name in PROCESSES
    ]
    config = {
        "global": {"scrape_interval": f"{STEP_SECONDS}s", "evaluation_interval": f"{STEP_SECONDS}s"},
        "rule_files": [str(ROOT / "helm/files/alerts.yaml")],
        "scrape_configs": [{"job_name": "mailstream", "static_configs": targets}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def ask(address: str, query: str, since: float, until: float) -> list[dict[str, Any]]:
    """The series of a query over a time."""
    for window, shorter in WINDOWS.items():
        query = query.replace(window, shorter)
    parameters = {"query": query, "start": since, "end": until, "step": STEP_SECONDS}
    url = f"{address}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server
        series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return series


def draw(address: str, since: float, until: float) -> None:
    """Every row and panel of the dashboard, one below the other."""
    rows: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            rows.append((panel["title"], []))
        else:
            rows[-1][1].append(panel)
    height = sum(ROW_HEIGHT + HEIGHT * -(-len(panels) // COLUMNS) for _, panels in rows)
    image = Image.new("RGB", (WIDTH * COLUMNS, height), "#111217")
    pencil = ImageDraw.Draw(image)
    y = empty = 0
    for title, panels in rows:
        pencil.text((12, y + 8), title, "#ffffff", ImageFont.load_default(18))
        y += ROW_HEIGHT
        for place, panel in enumerate(panels):
            lines = lines_of(address, panel, since, until)
            empty += not lines
            corner = (WIDTH * (place % COLUMNS), y + HEIGHT * (place // COLUMNS))
            chart(pencil, corner, panel, lines, (since, until))
        y += HEIGHT * -(-len(panels) // COLUMNS)
    image.save(PICTURE, optimize=True)
    sys.stdout.write(f"{PICTURE}: {sum(len(panels) for _, panels in rows)} panels, {empty} without data\n")


def lines_of(address: str, panel: dict[str, Any], since: float, until: float) -> Lines:
    """What a panel shows: its lines by their names."""
    lines: Lines = []
    for target in panel["targets"]:
        for series in ask(address, target["expr"], since, until):
            name = target["legendFormat"]
            for label, value in series["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            points = [(float(at), float(value)) for at, value in series["values"]]
            lines.append((name, [(at, value) for at, value in points if math.isfinite(value)]))
    return [line for line in lines if line[1]]


def chart(
    pencil: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    panel: dict[str, Any],
    lines: Lines,
    span: tuple[float, float],
) -> None:
    """One panel: frame, title, highest value, lines, names."""
    left, top = corner
    small, unit = ImageFont.load_default(12), panel["fieldConfig"]["defaults"]["unit"]
    pencil.rectangle((left + 4, top + 2, left + WIDTH - 4, top + HEIGHT - 4), "#181b1f", "#2c3235")
    pencil.text((left + 14, top + 8), panel["title"], "#d8d9da", ImageFont.load_default(14))
    if not lines:
        pencil.text((left + 220, top + 110), "no data", "#7b8087", small)
        return
    most = max(value for _, points in lines for _, value in points) or 1.0
    x0, x1, y0, y1 = left + 60, left + WIDTH - 20, top + 36, top + HEIGHT - 50
    for part in (0.0, 0.5, 1.0):
        y = y1 - (y1 - y0) * part
        pencil.line((x0, y, x1, y), "#2c3235")
        pencil.text((left + 10, y - 7), f"{most * part:.3g}{' s' if unit == 's' else ''}", "#9fa7b3", small)
    x_name = left + 14
    y_name = y1 + 10
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        scaled = [
            (x0 + (x1 - x0) * (at - span[0]) / (span[1] - span[0]), y1 - (y1 - y0) * value / most)
            for at, value in points
        ]
        pencil.line(scaled if len(scaled) > 1 else scaled * 2, colour, 2, "curve")
        width = pencil.textlength(name, small) + 30
        if x_name + width > left + WIDTH - 10:
            x_name, y_name = left + 14, y_name + 15
        pencil.line((x_name, y_name + 7, x_name + 12, y_name + 7), colour, 3)
        pencil.text((x_name + 16, y_name), name, "#d8d9da", small)
        x_name += int(width)


if __name__ == "__main__":
    main()
