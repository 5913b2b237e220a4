"""Figures of runs over time: lanes of what happened, and curves below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pages import COLOURS, PNG_OPTIONS, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES, LANE_INCHES, CHART_INCHES = 15.0, 0.25, 2.2
LEAST_PART = 0.003  # of the time shown: what was over at once is seen all the same
Point = tuple[float, float]  # seconds, value


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that went on in a lane; ``kind`` chooses its colour."""

    lane: str
    kind: str
    began_seconds: float
    ended_seconds: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the same time, by name, from zero."""

    title: str
    curves: Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A timeline: lanes of bars above, charts below."""

    title: str
    bars: Sequence[Bar] = ()
    charts: Sequence[Chart] = ()

    def save(self, path: Path) -> None:
        """Draw it into a PNG."""
        lanes = list(dict.fromkeys(bar.lane for bar in self.bars))
        heights = [LANE_INCHES * len(lanes) + 1.0] if lanes else []
        heights += [CHART_INCHES] * len(self.charts)
        figure, axes = pyplot().subplots(
            len(heights),
            figsize=(WIDTH_INCHES, sum(heights)),
            height_ratios=heights,
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        places = list(axes[:, 0])
        places[0].set_title(self.title, loc="left")
        if lanes:
            self._lanes(places.pop(0), lanes)
        for place, chart in zip(places, self.charts, strict=True):
            for number, (name, points) in enumerate(chart.curves.items()):
                seconds, values = ([point[axis] for point in points] for axis in (0, 1))
                place.plot(seconds, values, label=name, color=COLOURS[number % len(COLOURS)])
            place.set_ylim(bottom=0)
            place.set_ylabel(chart.title, fontsize=8, wrap=True)
            place.grid(alpha=0.3)
            if chart.curves:
                place.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        axes[-1, 0].set_xlabel("seconds")
        axes[-1, 0].set_xlim(left=0)
        figure.savefig(path, **PNG_OPTIONS)

    def _lanes(self, place: Axes, lanes: Sequence[str]) -> None:
        least = LEAST_PART * max([bar.ended_seconds for bar in self.bars])
        colours = pyplot().get_cmap("tab20").colors
        for number, kind in enumerate(dict.fromkeys(bar.kind for bar in self.bars)):
            bars = [bar for bar in self.bars if bar.kind == kind]
            place.barh(
                [lanes.index(bar.lane) for bar in bars],
                [max(bar.ended_seconds - bar.began_seconds, least) for bar in bars],
                left=[bar.began_seconds for bar in bars],
                height=0.6,
                label=kind,
                color=colours[number % len(colours)],
            )
        place.set_yticks(range(len(lanes)), lanes, fontsize=8)
        place.invert_yaxis()
        place.grid(alpha=0.3)
        place.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
