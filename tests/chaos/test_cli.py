"""The command ``chaos``: what it takes, what it writes and when it says that something is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.test_report import CALM, GOOD, LOSING, matrix
from tests.conftest import OwnServers
from tests.support.waiting import eventually
from tta_agent_coordination.chaos import report
from tta_agent_coordination.chaos.run import Matrix
from tta_agent_coordination.chaos.scenarios import SCENARIOS
from tta_agent_coordination.cli import chaos, main


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """Play nothing: note what was asked for, and tell of one good scenario and one bad."""
    asked: list[tuple[Any, dict[str, Any]]] = []

    def play_all(scenarios: Any, *, told: Any, **options: Any) -> Matrix:
        asked.append(([one.name for one in scenarios], options))
        bad = [LOSING] if options["seed"] == 13 else []
        for outcome in (GOOD, *bad):
            told(outcome)
        return matrix(GOOD, *bad)

    monkeypatch.setattr(chaos, "play_all", play_all)
    return asked


def test_all_faults_are_made_for_a_minute_unless_asked_otherwise(
    played: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chaos"]) == 0

    [(names, options)] = played
    assert names == list(SCENARIOS)
    assert options["seconds"] == 60.0
    assert options["url"] is None
    told = capsys.readouterr().out
    assert f"{len(SCENARIOS)} faults, 60 s, seed {options['seed']}\n" in told
    assert (
        "process-killed: 14 faults, 1090 confirmed, 1080 handled, 2 duplicates, 0 lost: ok" in told
    )
    assert told.endswith("nothing lost, nothing unexplained\n")


def test_faults_can_be_chosen(played: list[Any]) -> None:
    arguments = [
        "--fault",
        "calm",
        "--fault",
        "mixed",
        "--seconds",
        "5",
        "--seed",
        "7",
        "--url",
        "redis://host",
    ]

    assert main(["chaos", *arguments]) == 0

    options = {"seconds": 5.0, "seed": 7, "url": "redis://host", "keep": None}
    assert played == [(["calm", "mixed"], options)]


def test_the_exit_status_is_1_when_something_is_lost(
    played: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chaos", "--seed", "13"]) == 1

    assert played
    told = capsys.readouterr().out
    assert "1 lost: FAILED" in told
    assert told.endswith("\nFAILED\n")


def test_json_is_one_document_and_the_rest_goes_elsewhere(
    played: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chaos", "--json"]) == 0

    assert played
    told = capsys.readouterr()
    assert report.from_json(told.out) == matrix(GOOD)
    assert "process-killed: 14 faults" in told.err


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--list"]) == 0

    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == list(SCENARIOS)


def test_a_report_becomes_the_table_of_the_docs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text(report.to_json(matrix(CALM)))

    assert main(["chaos", "--markdown", str(file)]) == 0

    assert capsys.readouterr().out == f"{report.markdown(matrix(CALM))}\n"


def test_what_is_no_report_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert main(["chaos", "--markdown", str(file)]) == 2
    file.write_text("[]")
    assert main(["chaos", "--markdown", str(file)]) == 2

    missing, malformed = capsys.readouterr().err.splitlines()
    assert "No such file" in missing
    assert "no report of this command" in malformed


@pytest.mark.parametrize("arguments", [["--fault", "rain"], ["--seed", "x"], ["--seconds", "-1"]])
def test_wrong_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["chaos", *arguments])
    assert capsys.readouterr().err.startswith("tta-coordination chaos: argument ")


def test_a_server_that_is_away_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--fault", "calm", "--url", "redis://127.0.0.1:1"]) == 2
    assert "the server cannot be reached" in capsys.readouterr().err


def test_an_interrupted_run_leaves_nobody_behind(own_server: OwnServers, tmp_path: Path) -> None:
    server = own_server()
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "chaos", "--fault", "process-killed", "--url", server.url],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        eventually(lambda: len(list(tmp_path.rglob("*.diary"))) >= 6, timeout=20.0)
        assert server.connections()
        run.send_signal(signal.SIGINT)

        assert run.wait(15.0) == 130

    eventually(lambda: not server.connections())
    assert list(tmp_path.iterdir()) == []


RUN = "import sys; from tta_agent_coordination.cli import main; sys.exit(main(sys.argv[1:]))"


def test_the_page_of_the_docs_shows_the_report_that_is_kept_beside_it() -> None:
    docs = Path(__file__).parents[2] / "docs"
    kept = report.from_json((docs / "fault-matrix.json").read_text())
    page = (docs / "fault-matrix.md").read_text()

    assert report.markdown(kept) in page
    assert kept.is_good
    assert f"`--seed {kept.seed}`" in page
    assert f"`--seconds {kept.seconds:g}`" in page
    for name, version in kept.versions.items():
        assert f"{name} {version}" in page
    assert [one.name for one in kept.outcomes] == list(SCENARIOS)
    for cause, rule in report.RULES.items():
        assert f"| {cause} | {rule} |" in page
    assert json.loads((docs / "fault-matrix.json").read_text())["good"]
