"""Tables, and how they are drawn again in place."""

import io

import pytest

from tta_agent_coordination.terminal import (
    RED,
    Column,
    Display,
    Row,
    Table,
    printable,
    width_of,
)

COLUMNS = (Column("inbox", width=8), Column("ready", right=True), Column("name"))
TABLE = Table(COLUMNS, [Row(("analyst", "42", "Anna")), Row(("a-very-long-one", "7", ""))])


@pytest.fixture(autouse=True)
def a_terminal_of_80_by_24(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert TABLE.lines() == [
        "inbox            ready  name",
        "analyst             42  Anna",
        "a-very-long-one      7",
    ]


def test_a_column_keeps_the_width_that_it_was_given() -> None:
    assert Table(COLUMNS, []).lines() == ["inbox     ready  name"]


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert [width_of(text) for text in ("Anna", "博士", "e\u0301", "é")] == [4, 4, 1, 1]
    assert Table((Column("name"), Column("x")), [Row(("博士", "1"))]).lines() == [
        "name  x",
        "博士  1",
    ]


def test_rows_are_painted_where_there_are_colors() -> None:
    head, good, bad = Table(COLUMNS, [Row(("a", "1", "b")), Row(("a", "1", "b"), RED)]).lines(
        color=True
    )
    assert head.startswith("\x1b[1m")
    assert "\x1b" not in good
    assert bad.startswith("\x1b[31m")
    assert bad.endswith("\x1b[0m")


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    text = "a\x1b[2J\r\nb\x9b\ud800"
    assert printable(text) == r"a\x1b[2J\r\nb\x9b\ud800"
    assert Table((Column("x"),), [Row((text,))]).lines()[1] == printable(text)


@pytest.mark.parametrize(("limit", "line"), [(20, "analyst             "), (7, "analyst")])
def test_no_line_is_longer_than_the_limit(limit: int, line: str) -> None:
    assert TABLE.lines(limit=limit)[1] == line


def test_a_wide_character_is_not_cut_in_half() -> None:
    assert Table((Column(""),), [Row(("博士",))]).lines(limit=3)[1] == "博"


def test_without_a_terminal_there_is_a_line_a_second() -> None:
    out, now = io.StringIO(), iter([0.0, 0.0, 0.0, 0.5, 1.0, 1.0])
    display = Display(out, live=False, color=False, clock=lambda: next(now))
    for _ in range(3):
        display.show(TABLE, "all is well")
    display.say("that is all")
    assert out.getvalue() == "all is well\n" * 2 + "that is all\n"


def test_on_a_terminal_the_table_is_drawn_in_place_below_what_is_said() -> None:
    out = io.StringIO()
    display = Display(out, live=True, color=False)
    drawn = "".join(f"{line}\n" for line in TABLE.lines())
    above = "\x1b[3A\r\x1b[J"

    display.show(TABLE, "")
    display.show(TABLE, "")
    display.say("killed")
    display.show(TABLE, "")
    display.keep()
    display.say("done")

    assert out.getvalue() == f"{drawn}{above}{drawn}{above}killed\n{drawn}done\n"


def test_what_does_not_fit_on_the_terminal_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "5")
    out = io.StringIO()
    table = Table(COLUMNS, [Row((f"inbox-{number}", "1", "x")) for number in range(9)])

    Display(out, live=True, color=False).show(table, "")

    assert out.getvalue().splitlines() == [
        "inbox    ",
        "inbox-0  ",
        "inbox-1  ",
        "and 7 more",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "moves", "colors"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({}, False, False),
    ],
)
def test_the_display_suits_the_terminal(
    environ: dict[str, str], moves: bool, colors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    display = Display.on(out)
    display.show(TABLE, "")
    display.show(TABLE, "")
    assert ("\x1b[3A" in out.getvalue()) is moves
    assert ("\x1b[1m" in out.getvalue()) is colors
