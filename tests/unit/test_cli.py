"""The console script: what it takes, what it writes, and how it says what is wrong."""

import argparse
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tta_agent_coordination import (
    AgentId,
    InboxStats,
    MessagePriority,
    RedisMessageCoordinator,
    __version__,
)
from tta_agent_coordination.cli import demo, main, options, output
from tta_agent_coordination.cli.demo import MOST_ANALYSTS


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line on standard error with which arguments are refused."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "tta-coordination: the following arguments are required: COMMAND"),
        (["dead"], "tta-coordination dead: the following arguments are required: ACTION"),
        (["dead", "list"], "tta-coordination dead list: the following arguments are required: ID"),
        (["inbox", "a b"], "argument ID: the type of an AgentId must be 1 to 128 characters"),
        (["inbox", "a", "--prefix", "{"], "argument --prefix: key_prefix must be"),
        (["dead", "list", "a", "--limit", "-1"], "'-1' is no whole number of at least 0"),
        (["dead", "show", "a", "--offset", "x"], "'x' is no whole number of at least 0"),
        (["dead", "replay", "a", "--to", "b:"], "argument --to: the instance of an AgentId"),
        (["dead", "purge", "a", "--limit", "1"], "unrecognized arguments: --limit 1"),
        (["recover", ":"], "argument ID: the type of an AgentId"),
        (["send", "a", "b", "{"], "argument JSON: the payload is no JSON: Expecting"),
        (["send", "a", "b", "[" * 100_000], "argument JSON: the payload is no JSON: "),
        (["send", "a", "b", "[]"], "argument JSON: the payload must be a JSON object"),
        (["send", "a", "b", "{}", "--delay", "-1"], "argument --delay: the number must be"),
        (["send", "a", "b", "{}", "--delay", "soon"], "argument --delay: could not convert"),
        (["send", "a", "b", "{}", "--type", "letter"], "argument --type: invalid choice"),
        (["send", "a", "b", "{}", "--priority", "9"], "argument --priority: invalid choice"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(capsys, *arguments)
    assert expected in line
    assert "--help\n" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["inbox", "a", "redis://user:secret@host/0"],
        ["inbox", "redis://:secret@host"],
        ["send", "a", "b", "{}", "--delay", "redis://user:sec@secret@host"],
    ],
)
def test_a_url_in_the_wrong_place_does_not_show_its_password(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(capsys, *arguments)
    assert "secret" not in line
    assert "//***@host" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["inbox", "a", "--url", "http://user:secret@host"],
        ["agents", "--url", "redis://user:secret@host:port"],
        ["send", "a", "b", "{}", "--id", "short"],
        ["send", "a", "b", '{"a": NaN}'],
    ],
)
def test_what_no_server_is_needed_to_see_ends_with_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("tta-coordination: ")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"tta-coordination {__version__}\n"


# Output ---------------------------------------------------------------------------------------


def test_values_are_written_under_the_names_of_their_fields() -> None:
    stats = InboxStats({MessagePriority.HIGH: 1}, 2, 3, 4, 0.5)
    value = {
        "inbox": AgentId("a", "1"),
        "at": datetime(2020, 1, 2, tzinfo=UTC),
        "raw": b"\xff",
        "stats": stats,
    }
    assert json.loads(json.dumps(output.plain(value))) == {
        "inbox": "a:1",
        "at": "2020-01-02T00:00:00+00:00",
        "raw": "/w==",
        "stats": {
            "ready": {"high": 1},
            "delayed": 2,
            "leased": 3,
            "dead": 4,
            "oldest_ready_age": 0.5,
            "dead_dropped": 0,
        },
    }


def test_fields_are_aligned_and_cannot_move_the_cursor() -> None:
    assert output.fields([("id", "x"), ("payload", "{\n  1\x1b\n}"), ("topic", "")]) == [
        "id       x",
        "payload  {",
        r"           1\x1b",
        "         }",
        "topic",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (119.9, "119.9 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_an_age_is_told_in_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    assert output.age(seconds) == text


def test_moments_are_told_in_utc() -> None:
    noon = datetime(2020, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    assert output.moment(noon) == "2020-01-02 10:00:00Z"


def test_numbers_come_with_their_noun() -> None:
    assert output.counted(1, "lease") == "1 lease"
    assert output.counted(1_024, "lease") == "1,024 leases"


def test_long_texts_are_cut() -> None:
    assert output.shortened("abcdef", 6) == "abcdef"
    assert output.shortened("abcdefg", 6) == "abcde…"


def test_an_error_is_one_line_without_a_password() -> None:
    assert options.one_line("a\n  b redis://u:p@h/0") == "a b redis://***@h/0"


def test_an_interrupted_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(RedisMessageCoordinator, "recover_pending", interrupt)

    assert main(["recover", "--url", "redis://127.0.0.1:1"]) == 130
    assert capsys.readouterr().err == "tta-coordination: interrupted\n"


@pytest.mark.parametrize("number", ["1", "2", str(MOST_ANALYSTS)])
def test_the_demo_takes_so_many_analysts(number: str) -> None:
    assert demo._analysts(number) == int(number)


@pytest.mark.parametrize("number", ["0", "-1", str(MOST_ANALYSTS + 1), "many", "", "1.5"])
def test_the_demo_takes_no_other_number_of_analysts(number: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"from 1 to {MOST_ANALYSTS}"):
        demo._analysts(number)
