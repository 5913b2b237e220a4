"""The pages of docs/performance: a table, what follows from it, and a picture beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECTORY = Path(__file__).parents[1] / "docs" / "performance"
COLOURS = ("#5794f2", "#f2cc0c", "#73bf69", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#999999")
# Without the program's version in it, the same figures give the same file.
PNG_OPTIONS: dict[str, Any] = {"dpi": 90, "metadata": {"Software": None}}
Row = Sequence[object]


def pyplot() -> Any:
    """matplotlib for files: seconds to import, and only where something is drawn."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    return pyplot


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def write_page(name: str, title: str, parts: Sequence[str], directory: Path = DIRECTORY) -> Path:
    """Write ``NAME.md``, with ``NAME.png`` in it where that has been drawn; returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    picture = [f"![{title}]({name}.png)"] if (directory / f"{name}.png").exists() else []
    path = directory / f"{name}.md"
    path.write_text("\n\n".join(part.strip() for part in [f"# {title}", *parts, *picture]) + "\n")
    return path


class Picture:
    """A row of charts in one picture; ``save`` writes it. A context manager gives each chart's axes."""

    def __init__(self, charts: int, directory: Path = DIRECTORY) -> None:
        self._figure, axes = pyplot().subplots(1, charts, figsize=(5.2 * charts, 3.8), squeeze=False)
        self.axes: list[Axes] = list(axes[0])
        self._directory = directory

    def bars(
        self, place: int, title: str, values: Mapping[str, float], unit: str, limit: float | None = None
    ) -> None:
        """Horizontal bars, the first on top; ``limit`` is drawn as a line."""
        axes = self.axes[place]
        names = list(values)
        drawn = axes.barh(names, list(values.values()), color=[COLOURS[n % 8] for n in range(len(names))])
        axes.bar_label(drawn, fmt=lambda value: f" {value:,.4g}")
        axes.invert_yaxis()
        axes.margins(x=0.18)
        self._finish(axes, title, unit, limit, vertical=True)

    def lines(
        self,
        place: int,
        title: str,
        lines: Mapping[str, Sequence[tuple[float, float]]],
        units: tuple[str, str],
        *,
        logarithmic: bool = False,
    ) -> None:
        """Lines through points; ``units`` of x and y."""
        axes = self.axes[place]
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(*zip(*points, strict=True), "o-", label=name, color=COLOURS[number % 8])
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_ylabel(units[1])
        if len(lines) > 1:
            axes.legend(fontsize=8)
        self._finish(axes, title, units[0], None, vertical=False)

    def save(self, name: str) -> None:
        """Write ``NAME.png``."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._figure.tight_layout()
        self._figure.savefig(self._directory / f"{name}.png", **PNG_OPTIONS)

    def _finish(self, axes: Axes, title: str, unit: str, limit: float | None, *, vertical: bool) -> None:
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(unit)
        axes.grid(alpha=0.3)
        if limit is not None:
            (axes.axvline if vertical else axes.axhline)(limit, color="#c4162a", linestyle="--")


def machine() -> str:
    """What it was measured on, in words."""
    import os
    import platform

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({names[0] if names else platform.machine()}), load {os.getloadavg()[0]:.1f} before"
    )
