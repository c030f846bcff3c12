"""Tables that cells show."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from figures.table import Table


def sides(table: Table) -> list[list[str]]:
    """Where the cells stand, line by line, the head's first."""
    lines = BeautifulSoup(table._repr_html_(), "html.parser").find_all("tr")
    return [
        ["right" if "text-align:right" in cell["style"] else "left" for cell in line.find_all(["th", "td"])]
        for line in lines
    ]


def test_a_table_is_html_and_text() -> None:
    table = Table(("file", "lines"), [("a <b>", 12)])
    assert repr(table) == "file | lines\na <b> | 12"
    assert "a &lt;b&gt;" in table._repr_html_()
    with pytest.raises(ValueError, match="rows must have 2 cells"):
        Table(("file", "lines"), [("a",)])


def test_a_cell_of_two_lines_is_broken_there_only() -> None:
    table = Table(("file",), [("a\nb",)])
    assert repr(table) == "file\na b"
    assert 'white-space:nowrap">a<br>b</td>' in table._repr_html_()


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        ((1, 20), True),
        (("67.6", "–", "1,399"), True),
        (("0.58 billion", "10 billion"), True),
        (("−1.5 %", "3 %"), True),
        (("67.6", "none"), False),
        (("engine 0.20", "1"), False),
        (("AVX2", "3"), False),
        (("1 to 3", "4"), False),
    ],
)
def test_a_column_of_numbers_stands_at_the_right_with_its_name(cells: tuple[object, object], right: bool) -> None:
    table = Table(("name", "value"), [("a", cells[0]), ("b", cells[1])])
    assert sides(table) == [["left", "right" if right else "left"]] * 3
