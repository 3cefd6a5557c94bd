"""Reports for people, for programs and for the documentation say the same."""

import json

import attrs
import pytest

from tta_agent_coordination.chaos import report
from tta_agent_coordination.chaos.figures import Counts, Judgment, Spread
from tta_agent_coordination.chaos.run import Matrix, Outcome
from tta_agent_coordination.terminal import RED

COUNTS = Counts(
    sent=1100,
    confirmed=1090,
    refused=7,
    uncertain=8,
    deliveries=1200,
    handled=1080,
    redelivered={"retried": 90, "killed": 3},
    duplicates={"killed": 2},
    redelivery=Spread(1.0, 1.25, 1.5),
)
GOOD = Outcome(
    name="process-killed",
    about="SIGKILL",
    bound="",
    seconds=30.0,
    faults=14,
    counts=COUNTS,
    judgment=Judgment(0, 0, 0, []),
    dead=10,
    recovered=0.1,
    drained=0.7,
    keys_kept=["inboxes"],
    keys_left=[],
    failures=[],
)
CALM = attrs.evolve(GOOD, name="calm", counts=attrs.evolve(COUNTS, duplicates={}, redelivery=None))
FORGETFUL = attrs.evolve(GOOD, name="failover", judgment=Judgment(0, 4, 1, []))
LOSING = attrs.evolve(GOOD, judgment=Judgment(1, 0, 0, ["m-1: lost"]))
LITTERING = attrs.evolve(GOOD, keys_left=["tta:x"])
FAILING = attrs.evolve(GOOD, failures=["serve1 does not answer"])


def matrix(*outcomes: Outcome, **fields) -> Matrix:
    return Matrix(1, 60.0, 1.0, {"Python": "3.11"}, list(outcomes), **fields)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (LOSING, "process-killed: m-1: lost"),
        (LITTERING, "process-killed: key left: tta:x"),
        (FAILING, "process-killed: serve1 does not answer"),
    ],
)
def test_whatever_is_wrong_makes_the_whole_fail_and_is_told(outcome: Outcome, told: str) -> None:
    whole = matrix(GOOD, outcome)

    lines = report.lines(whole)

    assert not whole.is_good
    assert told in lines
    assert lines[-1] == "FAILED"
    assert sum(line.endswith("FAIL") for line in lines) == 1


def test_only_what_is_wrong_is_red() -> None:
    table = report.table([GOOD, LOSING, CALM])

    assert [row.paint for row in table.rows] == ["", RED, ""]


def test_a_good_run_says_so() -> None:
    lines = report.lines(matrix(CALM, GOOD, FORGETFUL, skipped=["script-flush"]))

    assert lines[-2:] == ["seed 1, Python 3.11", "nothing lost, nothing unexplained"]
    assert "not for a given server: script-flush" in lines
    assert any(line.startswith("process-killed") and " 1.25 " in line for line in lines)
    assert any("0 + 4 by the server" in line for line in lines)
    assert any("4 killed: its consumer was killed before" in line for line in lines)


def test_a_run_without_duplicates_says_so() -> None:
    assert "  none" in report.lines(matrix(CALM))


def test_json_can_be_read_again() -> None:
    whole = matrix(CALM, LOSING, skipped=["mixed"])

    text = report.to_json(whole)

    assert report.from_json(text) == whole
    document = json.loads(text)
    assert not document["good"]
    assert [one["good"] for one in document["outcomes"]] == [True, False]
    assert document["outcomes"][1]["counts"]["duplicates"] == {"killed": 2}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 1}', "nonsense"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no report|Expecting"):
        report.from_json(text)


def test_the_table_of_the_docs_has_a_row_for_each_fault() -> None:
    assert report.markdown(matrix(CALM, FORGETFUL)).splitlines()[2:] == [
        "| **calm**: SIGKILL | 14 | 1,100 / 1,090 | 1,080 | 93 | 0 | - | 0.1 / 0.7 | 0 | **0** |",
        (
            "| **failover**: SIGKILL | 14 | 1,100 / 1,090 | 1,080 | 93 | 2 killed "
            "| 1.00 / 1.25 / 1.50 | 0.1 / 0.7 | 0 | **0 + 4 by the server** |"
        ),
    ]
