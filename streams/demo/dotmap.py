"""A map in the terminal: trails of dots, eight per character, and marks."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

_BRAILLE = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # row, column of a dot in its character


class DotMap:
    """A map of a rectangle in the plane on `width` by `height` characters, with the y axis up and equal scales.

    Args:
        width, height: size in characters.
        low, high: corners of the visible area, m.
    """

    def __init__(self, width: int, height: int, low: tuple[float, float], high: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self._dots = [[0] * width for _ in range(height)]
        self._styles: list[list[str]] = [[""] * width for _ in range(height)]
        self._marks: dict[tuple[int, int], tuple[str, str]] = {}
        # the distance of dots is about equal in both directions
        self._scale = min(
            (2 * width - 1) / max(high[0] - low[0], 1e-9), (4 * height - 1) / max(high[1] - low[1], 1e-9)
        )
        self._middle = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)

    def trail(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Draw a dot at each point; a later trail overwrites the style of earlier ones."""
        for x, y in points:
            column, row = self._dot(x, y)
            if 0 <= column < 2 * self.width and 0 <= row < 4 * self.height:
                self._dots[row // 4][column // 2] |= _BITS[row % 4][column % 2]
                self._styles[row // 4][column // 2] = style

    def mark(self, x: float, y: float, symbol: str, style: str) -> None:
        """Draw a character at a point, over any trail."""
        column, row = self._dot(x, y)
        if 0 <= column < 2 * self.width and 0 <= row < 4 * self.height:
            self._marks[row // 4, column // 2] = (symbol, style)

    def text(self) -> Text:
        """Return the map as rich text."""
        lines = Text(no_wrap=True)
        for row in range(self.height):
            for column in range(self.width):
                dots = self._dots[row][column]
                default = (chr(_BRAILLE + dots) if dots else " ", self._styles[row][column])
                lines.append(*self._marks.get((row, column), default))
            if row + 1 < self.height:
                lines.append("\n")
        return lines

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        column = round(self.width + (x - self._middle[0]) * self._scale - 0.5)
        row = round(2 * self.height - (y - self._middle[1]) * self._scale - 0.5)
        return column, row
