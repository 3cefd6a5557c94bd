"""Short runs on real servers: what is well is found well, and what is broken is found broken."""

from pathlib import Path

import attrs
import pytest

from tests.chaos.given import event
from tests.conftest import OwnServers
from tta_agent_coordination.chaos import crew as crew_module
from tta_agent_coordination.chaos import run
from tta_agent_coordination.chaos.history import read_all
from tta_agent_coordination.chaos.raw_inbox import KEPT_WHEN_EMPTY
from tta_agent_coordination.chaos.run import Outcome, fitting, idle_roles, play_all
from tta_agent_coordination.chaos.scenarios import SCENARIOS
from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.chaos.settings import ChaosError


def play(scenario: Scenario, seconds: float) -> Outcome:
    """Return what came of one scenario; it must be good."""
    [outcome] = play_all([scenario], seconds=seconds, seed=1).outcomes
    assert outcome.is_good, outcome
    return outcome


@pytest.mark.guarantee("2.3")
@pytest.mark.guarantee("2.4")
@pytest.mark.guarantee("2.5")
@pytest.mark.guarantee("2.6")
@pytest.mark.guarantee("2.10")
@pytest.mark.guarantee("2.14")
def test_killed_processes_lose_and_double_nothing() -> None:
    often = attrs.evolve(SCENARIOS["clocks-off"], every=(0.2, 0.6))

    outcome = play(often, 6.0)

    assert outcome.faults > 5
    assert outcome.counts.confirmed > 50
    assert sum(outcome.counts.redelivered.values())
    assert {key.rpartition(":")[2] for key in outcome.keys_kept} <= KEPT_WHEN_EMPTY | {"inboxes"}


@pytest.mark.guarantee("2.3")
@pytest.mark.guarantee("2.9")
def test_a_server_that_writes_before_it_answers_loses_nothing_when_it_is_killed() -> None:
    often = attrs.evolve(SCENARIOS["server-killed-always"], every=(0.5, 1.0))

    outcome = play(often, 5.0)

    assert outcome.faults > 1
    assert outcome.counts.confirmed > 50
    assert not outcome.judgment.lost_by_server


@pytest.mark.guarantee("2.13")
def test_work_goes_on_by_itself_when_the_node_of_a_cluster_is_replaced() -> None:
    assert play(SCENARIOS["cluster-failover"], 1.5).faults


def test_scenarios_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[float] = []

    def note(_scenario: Scenario, _url: object, _dice: object, seconds: float, *_: object) -> None:
        played.append(seconds)

    monkeypatch.setattr(run, "_play", note)

    play_all(list(SCENARIOS.values()), seconds=60.0, seed=1)

    assert len(played) == len(SCENARIOS)
    assert sum(played) == pytest.approx(60.0)
    assert len(set(played)) == 1


def test_on_a_given_server_only_those_faults_are_made_that_leave_it_alone(
    own_server: OwnServers, tmp_path: Path
) -> None:
    server = own_server()
    chosen = [SCENARIOS[name] for name in ("replies-dropped", "script-flush")]
    told: list[Outcome] = []

    matrix = play_all(chosen, seconds=1.0, seed=1, url=server.url, keep=tmp_path, told=told.append)

    assert matrix.is_good
    assert told == matrix.outcomes
    assert matrix.skipped == ["script-flush"]
    assert matrix.versions["server"].startswith("valkey ")
    assert all(server.admin.ttl(key) >= 0 for key in server.admin.scan_iter())
    kept = tmp_path / "replies-dropped"
    assert {event.kind for event in read_all(kept)} >= {"sent", "handled"}
    assert "all faults are over" in (kept / "faults.log").read_text()
    with pytest.raises(ChaosError, match=r"replies-dropped cannot be made: .*File exists"):
        play_all(chosen, seconds=1.0, seed=1, url=server.url, keep=tmp_path)


@pytest.mark.parametrize(
    ("name", "url", "fits"),
    [
        ("script-flush", None, True),
        ("script-flush", "redis://host", False),
        ("calm", "rediss://host", True),
        ("replies-cut", "unix:///socket", True),
        ("replies-cut", "rediss://host", False),
        ("sentinel-failover", "redis://host", False),
    ],
)
def test_a_fault_is_made_where_it_can_be(name: str, url: str | None, fits: bool) -> None:
    assert fitting(SCENARIOS[name], url) is fits


def lose_all(scene: Scene) -> None:
    """Drop what is unfinished, as a library or a server would that loses it."""
    console = scene.stage.console()
    names = (b"messages", b"ready", b"delayed", b"leased", b"states", b"claims")
    for key in console("KEYS", "*{worker}:*"):
        if key.endswith(names):
            console("DEL", key.decode())


def leave_a_key(scene: Scene) -> None:
    [key] = scene.stage.console()("KEYS", "*:inboxes")
    scene.stage.console()("SET", key.decode().replace(":inboxes", ":forgotten"), "x")


def stop_everybody(scene: Scene) -> None:
    for member in scene.crew.of("consume", "serve"):
        member.stop()


def break_all(scene: Scene) -> None:
    lose_all(scene)
    leave_a_key(scene)
    stop_everybody(scene)
    scene.sleep(0.3, 0.3)  # what is sent now, nobody handles
    raise ChaosError("no hammer")


def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PROMPT_TIMEOUT", 0.3)
    monkeypatch.setattr(run, "DRAIN_TIMEOUT", 0.3)
    monkeypatch.setattr(run, "_A_PAGE", 1)
    monkeypatch.setattr(crew_module, "END_TIMEOUT", 3.0)
    told: list[Outcome] = []

    matrix = play_all(
        [Scenario("broken", "all is lost", break_all, exact=True)],
        seconds=2.0,
        seed=1,
        told=told.append,
    )

    [outcome] = told
    assert not matrix.is_good
    assert outcome.judgment.lost
    assert "forgotten" in outcome.keys_left
    failures = "; ".join(outcome.failures)
    assert "the faults ended early: no hammer" in failures
    assert "serve4 does not answer after the faults: " in failures
    assert "not all is handled 0.3 s after the faults" in failures
    assert "process serve5 did not end when it was told to" in failures


def test_a_kind_of_worker_that_handles_nothing_is_found() -> None:
    consumed = [event("handled", at, process="consume2+1") for at in range(300)]
    served = [event("handled", 301, process="serve14")]

    assert idle_roles([*consumed, *served]) == []
    assert idle_roles(consumed) == ["no process that can serve handled anything"]
    assert idle_roles(consumed[:10]) == [], "that is too little to tell"
