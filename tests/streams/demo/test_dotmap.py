from __future__ import annotations

from beliefstream.streams.demo.view import DotMap


def test_corners_are_on_the_map_with_y_up() -> None:
    drawn = DotMap(8, 4, (0.0, 0.0), (10.0, 10.0))
    drawn.mark(0.0, 10.0, "a", "")
    drawn.mark(10.0, 0.0, "b", "")
    lines = drawn.text().plain.split("\n")
    assert len(lines) == 4
    assert "a" in lines[0]
    assert "b" in lines[3]
    assert lines[0].index("a") < lines[3].index("b")


def test_marks_cover_trails_and_what_is_outside_is_left_out() -> None:
    drawn = DotMap(4, 2, (0.0, 0.0), (1.0, 1.0))
    drawn.trail([(0.5, 0.5), (50.0, 0.5), (-50.0, 0.5)], "red")
    assert sum(character not in " \n" for character in drawn.text().plain) == 1
    drawn.mark(0.5, 0.5, "x", "")
    drawn.mark(99.0, 0.0, "y", "")
    assert drawn.text().plain.replace("\n", "").strip() == "x"
