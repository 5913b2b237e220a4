"""Figures of runs over time, drawn with Pillow: lanes of what happened, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, LEFT, RIGHT = 1_400, 190, 30
LANE_PIXELS, CHART_PIXELS, GAP_PIXELS, TOP_PIXELS = 22, 150, 34, 40
INK, GREY, PALE = (30, 35, 45), (130, 135, 145), (228, 230, 234)
COLOURS = (
    *((196, 58, 49), (38, 110, 179), (224, 148, 32), (46, 139, 87), (130, 82, 168), (90, 90, 90)),
    *((200, 90, 140), (20, 140, 150)),
)
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


@dataclass
class Figure:
    """A timeline: lanes of bars above, charts below."""

    title: str
    bars: Sequence[Bar] = ()
    charts: Sequence[Chart] = ()
    _draw: ImageDraw.ImageDraw = field(init=False, repr=False)

    def save(self, path: Path) -> None:
        """Draw it into a PNG."""
        lanes = list(dict.fromkeys(bar.lane for bar in self.bars))
        kinds = list(dict.fromkeys(bar.kind for bar in self.bars))
        height = TOP_PIXELS + (len(lanes) * LANE_PIXELS + 2 * GAP_PIXELS if lanes else 0)
        height += len(self.charts) * (CHART_PIXELS + 2 * GAP_PIXELS)
        image = Image.new("RGB", (WIDTH, height), (255, 255, 255))
        self._draw = ImageDraw.Draw(image)
        self._large, self._small = ImageFont.load_default(16), ImageFont.load_default(11)
        points = [x for chart in self.charts for curve in chart.curves.values() for x, _ in curve]
        self._end = max([*points, *(bar.ended_seconds for bar in self.bars), 1.0])
        self._draw.text((LEFT, 10), self.title, INK, self._large)
        top = TOP_PIXELS
        if lanes:
            top = self._lanes(top, lanes, kinds)
        for chart in self.charts:
            top = self._chart(top + GAP_PIXELS // 2, chart)
        image.save(path, optimize=True)

    def _x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self._end

    def _lanes(self, top: int, lanes: Sequence[str], kinds: Sequence[str]) -> int:
        bottom = top + len(lanes) * LANE_PIXELS
        for number, lane in enumerate(lanes):
            y = top + number * LANE_PIXELS
            self._draw.line((LEFT, y + LANE_PIXELS // 2, WIDTH - RIGHT, y + LANE_PIXELS // 2), PALE)
            self._draw.text((10, y + 4), lane, INK, self._small)
        for bar in self.bars:
            y = top + lanes.index(bar.lane) * LANE_PIXELS
            begin, end = self._x(bar.began_seconds), self._x(bar.ended_seconds)
            colour = COLOURS[kinds.index(bar.kind) % len(COLOURS)]
            self._draw.rectangle((begin, y + 4, max(end, begin + 4), y + LANE_PIXELS - 5), colour)
        self._axis(bottom)
        self._legend(bottom + 18, kinds)
        return bottom + GAP_PIXELS + 6

    def _chart(self, top: int, chart: Chart) -> int:
        self._draw.text((LEFT, top), chart.title, INK, self._small)
        top, bottom = top + 16, top + 16 + CHART_PIXELS
        most = max((y for curve in chart.curves.values() for _, y in curve), default=1.0) or 1.0
        for part in (0.0, 0.5, 1.0):
            y = bottom - CHART_PIXELS * part
            self._draw.line((LEFT, y, WIDTH - RIGHT, y), PALE)
            self._draw.text((LEFT - 60, y - 6), f"{most * part:,.4g}", GREY, self._small)
        for number, curve in enumerate(chart.curves.values()):
            line = [(self._x(x), bottom - CHART_PIXELS * y / most) for x, y in curve]
            if len(line) > 1:
                self._draw.line(line, COLOURS[number % len(COLOURS)], 2)
        self._axis(bottom)
        self._legend(bottom + 18, list(chart.curves))
        return bottom + GAP_PIXELS

    def _axis(self, y: int) -> None:
        self._draw.line((LEFT, y, WIDTH - RIGHT, y), GREY)
        step = next(step for step in (10, 30, 60, 300, 600, 1_800, 3_600, 36_000) if self._end / step <= 14)
        for number in range(int(self._end // step) + 1):
            x = self._x(number * step)
            self._draw.line((x, y, x, y + 4), GREY)
            self._draw.text((x + 2, y + 4), f"{number * step} s", GREY, self._small)

    def _legend(self, y: int, names: Sequence[str]) -> None:
        x = float(LEFT)
        for number, name in enumerate(names):
            self._draw.rectangle((x, y + 3, x + 9, y + 12), COLOURS[number % len(COLOURS)])
            self._draw.text((x + 14, y), name, INK, self._small)
            x += 30 + self._draw.textlength(name, self._small)
