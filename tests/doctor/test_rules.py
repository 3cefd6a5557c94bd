"""How the doctor judges what a server says of itself."""

from importlib.metadata import PackageNotFoundError
from typing import NoReturn

import pytest

from tta_agent_coordination.doctor import Finding, Report, Status
from tta_agent_coordination.doctor.examination import _hiredis, _redis_py
from tta_agent_coordination.doctor.facts import Facts
from tta_agent_coordination.doctor.rules import RULES, call_timeout, judge, threads

OK, UNKNOWN, WARNING, ERROR = Status.OK, Status.UNKNOWN, Status.WARNING, Status.ERROR


def policy(name: str, maxmemory: int = 1000) -> Facts:
    return Facts(info={"maxmemory_policy": name, "maxmemory": str(maxmemory)})


def memory(used: int, most: int, machine: int = 0) -> Facts:
    fields = {"used_memory": used, "maxmemory": most, "total_system_memory": machine}
    return Facts(info={name: str(number) for name, number in fields.items()})


def version(**info: str) -> Facts:
    return Facts(info=info)


def replicas(connected: int, least: int) -> Facts:
    return Facts(
        info={"connected_slaves": str(connected)}, config={"min-replicas-to-write": str(least)}
    )


def parameter(name: str, value: str) -> Facts:
    return Facts(config={name: value})


def aof(*, on: bool, config: dict[str, str] | None = None, **info: str) -> Facts:
    return Facts(info={"aof_enabled": str(int(on)), **info}, config=config or {})


VALKEY = {"redis_version": "7.2.4"}

CASES: list[tuple[str, Facts, Status, str]] = [
    ("server", version(redis_version="6.2.14"), OK, "Redis 6.2.14"),
    ("server", version(redis_version="8.2.1"), OK, "Redis 8.2.1"),
    ("server", version(redis_version="6.0.16"), WARNING, "Redis 6.0.16"),
    ("server", version(redis_version="6.1.9"), WARNING, "Redis 6.1.9"),
    ("server", version(redis_version="8.99.0"), OK, "Redis 8.99.0"),
    ("server", version(redis_version="9.0.0"), WARNING, "Redis 9.0.0"),
    ("server", version(redis_version="5.0.7"), ERROR, "too old"),
    ("server", version(redis_version="unstable"), UNKNOWN, "'unstable'"),
    ("server", version(**VALKEY, valkey_version="8.1.0"), OK, "Valkey 8.1.0"),
    ("server", version(**VALKEY, valkey_version="8.0.0"), OK, "Valkey 8.0.0"),
    ("server", version(**VALKEY, valkey_version="9.9.9"), OK, "Valkey 9.9.9"),
    ("server", version(**VALKEY, valkey_version="10.0.0"), WARNING, "Valkey 10.0.0"),
    ("server", version(**VALKEY, valkey_version="7.2.8"), WARNING, "Valkey 7.2.8"),
    ("server", version(**VALKEY, dragonfly_version="df-1"), WARNING, "dragonfly"),
    ("server", Facts(unseen={"INFO": "no permissions"}), UNKNOWN, "INFO: no permissions"),
    ("mode", version(redis_mode="standalone"), OK, "standalone"),
    ("mode", version(server_mode="cluster"), OK, "cluster"),
    ("mode", version(redis_mode="sentinel"), ERROR, "Sentinel"),
    ("mode", Facts(), UNKNOWN, "does not say redis_mode"),
    ("role", version(role="master"), OK, "primary"),
    ("role", version(role="slave", master_host="h", master_port="7"), ERROR, "replica of h:7"),
    ("eviction", policy("noeviction"), OK, "noeviction"),
    ("eviction", policy("allkeys-lru", 0), WARNING, "when maxmemory is set"),
    ("eviction", policy("allkeys-lru"), ERROR, "drops messages"),
    ("eviction", policy("volatile-ttl"), WARNING, "marks of finished messages"),
    ("memory", memory(100, 1000), OK, "10% of maxmemory"),
    ("memory", memory(800, 1000), WARNING, "80% of maxmemory"),
    ("memory", memory(100, 0, 1000), OK, "10% of the machine"),
    ("memory", memory(900, 0, 1000), WARNING, "90% of the machine"),
    ("memory", memory(900, 0, 0), OK, "900 bytes"),
    ("persistence", aof(on=True), OK, "append-only file"),
    ("persistence", aof(on=True, aof_last_write_status="err"), ERROR, "cannot be written"),
    ("persistence", aof(on=False), WARNING, "snapshots at most"),
    ("persistence", aof(on=False, config={"save": ""}), WARNING, "loses everything"),
    (
        "persistence",
        aof(on=False, config={"save": "60 1"}, rdb_changes_since_last_save="42"),
        WARNING,
        "now 42 changes",
    ),
    ("fsync", aof(on=False), OK, "not used"),
    ("fsync", aof(on=True, config={"appendfsync": "always"}), OK, "nothing"),
    ("fsync", aof(on=True, config={"appendfsync": "everysec"}), OK, "last second"),
    ("fsync", aof(on=True, config={"appendfsync": "no"}), WARNING, "half minute"),
    ("fsync", aof(on=True, config={"appendfsync": "daily"}), UNKNOWN, "daily"),
    ("fsync", aof(on=True), UNKNOWN, "appendfsync"),
    ("replicas", replicas(0, 0), OK, "0 connected"),
    ("replicas", replicas(2, 1), OK, "2 connected"),
    ("replicas", replicas(2, 0), WARNING, "min-replicas-to-write 0"),
    ("replicas", replicas(0, 1), ERROR, "writes are refused"),
    ("round_trip", Facts(round_trip=0.0002), OK, "0.20 ms"),
    ("round_trip", Facts(round_trip=0.02), WARNING, "20.00 ms"),
    ("clock", Facts(clock_ahead=3600.0), OK, "3600.0 s ahead of"),
    ("clock", Facts(clock_ahead=-7.0), OK, "7.0 s behind"),
    ("connections", version(connected_clients="79", maxclients="100"), OK, "79 of 100"),
    ("connections", version(connected_clients="80", maxclients="100"), WARNING, "80 of 100"),
    ("idle_timeout", parameter("timeout", "0"), OK, "none"),
    ("idle_timeout", parameter("timeout", "5"), WARNING, "5 s"),
    ("idle_timeout", parameter("timeout", "300"), OK, "300 s"),
    ("idle_timeout", parameter("timeout", "soon"), UNKNOWN, "'soon' for timeout"),
    (
        "idle_timeout",
        Facts(unseen={"CONFIG GET": "unknown command"}),
        UNKNOWN,
        "CONFIG GET: unknown",
    ),
    ("keepalive", parameter("tcp-keepalive", "300"), OK, "300 s"),
    ("keepalive", parameter("tcp-keepalive", "0"), WARNING, "off"),
    ("script_limit", parameter("busy-reply-threshold", "5000"), OK, "5000 ms"),
    ("script_limit", parameter("lua-time-limit", "5000"), OK, "5000 ms"),
    ("script_limit", parameter("lua-time-limit", "0"), OK, "none"),
    ("script_limit", parameter("lua-time-limit", "100"), WARNING, "100 ms"),
    ("access", Facts(user="shop"), OK, "shop may do all"),
    ("access", Facts(), OK, "the user may do all"),
    ("access", Facts(user="shop", refused=("hset", "zadd")), ERROR, "may not call hset, zadd"),
    ("access", Facts(keys_refused=True, refused=("hset",)), ERROR, "may not touch keys"),
]


@pytest.mark.parametrize(
    ("name", "facts", "status", "found"),
    CASES,
    ids=[f"{name}-{status}-{place}" for place, (name, _, status, _) in enumerate(CASES)],
)
def test_a_rule_judges(name: str, facts: Facts, status: Status, found: str) -> None:
    verdict = judge(RULES[name], facts)
    assert verdict.status is status
    assert found in verdict.found
    if status in {WARNING, ERROR}:
        assert verdict.advice, "what is wrong is told with what to do"


def test_every_rule_has_cases() -> None:
    assert {name for name, *_ in CASES} == set(RULES)


def test_the_advice_names_the_rights_to_give() -> None:
    advice = judge(RULES["access"], Facts(user="shop", refused=("hset", "zadd"))).advice
    assert advice == "ACL SETUSER shop +hset +zadd"
    assert "~PREFIX:*" in judge(RULES["access"], Facts(keys_refused=True)).advice


def test_what_a_user_may_not_see_is_told_with_the_rights_it_takes() -> None:
    refused = Facts(unseen={"INFO": "User x has no permissions to run the 'info' command"})
    assert "--acl --look" in judge(RULES["role"], refused).advice
    assert judge(RULES["role"], Facts()).advice == ""


def test_a_deadline_too_short_for_the_way_is_a_warning() -> None:
    assert call_timeout(5.0, 0.001).status is OK
    verdict = call_timeout(0.5, 0.05)
    assert verdict.status is WARNING
    assert "at least 1.5 s" in verdict.advice


def test_more_threads_than_the_server_has_connections_for_are_a_warning() -> None:
    assert threads(8, 16.0).status is threads(8, None).status is OK
    verdict = threads(8, 15.0)
    assert verdict.status is WARNING
    assert verdict.found.startswith("8; ")
    assert "takes 15 more" in verdict.found
    assert "maxclients" in verdict.advice


@pytest.mark.parametrize(
    ("version", "status"),
    [("6.4.0", OK), ("8.1.0", OK), ("8.2.0rc1", OK), ("6.3.9", WARNING), ("9.0.0", WARNING)],
)
def test_the_version_of_redis_py_is_one_that_the_tests_run_with(
    version: str, status: Status
) -> None:
    assert _redis_py(version).status is status


def test_hiredis_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hiredis().status is OK
    monkeypatch.setattr("importlib.metadata.distribution", _missing)
    assert _hiredis().found == "not installed"


def _missing(name: str) -> NoReturn:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("statuses", "worst", "ok"),
    [
        ([], OK, True),
        ([OK, OK], OK, True),
        ([OK, UNKNOWN], UNKNOWN, True),
        ([WARNING, UNKNOWN], WARNING, True),
        ([ERROR, WARNING], ERROR, False),
    ],
)
def test_a_report_is_as_bad_as_its_worst_finding(
    statuses: list[Status], worst: Status, *, ok: bool
) -> None:
    report = Report(tuple(Finding("x", status, "found") for status in statuses))
    assert (report.worst, report.ok) == (worst, ok)
    assert [one.status for one in report.having(ERROR)] == [
        status for status in statuses if status is ERROR
    ]
