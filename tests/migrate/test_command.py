"""``tta-coordination migrate`` as an operator uses it."""

import json
from collections.abc import Callable

import pytest

from tests.migrate.old import SECOND, OldInbox, stored
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination.cli import main
from tta_agent_coordination.policy import DEFAULT_QUEUE_SIZE

pytestmark = pytest.mark.backend("valkey")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    backend: Backend, key_prefix: str, old_prefix: str, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command; return its exit status and what it wrote."""

    def run(*arguments: str) -> tuple[int, str]:
        assert backend.url is not None
        status = main([
            "migrate", "--url", backend.url, "--from-prefix", old_prefix,
            "--to-prefix", key_prefix, *arguments,
        ])  # fmt: skip
        out, err = capsys.readouterr()
        assert not err
        return status, out.replace(old_prefix, "ao")

    return run


def test_it_tells_what_was_moved_and_what_was_left(
    run: Run, old: OldInbox, client: Client, old_prefix: str
) -> None:
    fill(old)
    client.set(f"{old_prefix}:agents:worker:default", "x")
    client.set(f"{old_prefix}:metrics", "x")

    status, text = run()

    assert status == 1
    assert text == (
        "inbox   ready  delayed  reserved  stranded  dead  subscriptions  left\n"
        "worker      1        1         1         0     1              1     3\n"
        "4 messages moved\n"
        "worker: 1 lease not over yet; run it again\n"
        "worker: 1 message only in the audit list, in the hands of a consumer or lost by one; "
        "--final moves them\n"
        "left in ao:dlq:worker:default (the stored form is no JSON object but 1 (int)): 1\n"
        "left in ao:metrics (no key of the layout)\n"
        "1 key of agents not moved: they register anew\n"
    )


def test_a_dry_run_is_told_from_a_real_one(run: Run, old: OldInbox) -> None:
    old.schedule(stored("message-1"))
    assert "1 message would be moved\n" in run("--dry-run")[1]
    status, text = run()
    assert status == 0
    assert text == (
        "inbox   ready  delayed  reserved  stranded  dead  subscriptions  left\n"
        "worker      1        0         0         0     0              0     0\n"
        "1 message moved\n"
    )


def test_nothing_to_move_is_well(run: Run) -> None:
    assert run() == (0, "0 messages moved\n")


def test_json_has_all_of_it(run: Run, old: OldInbox) -> None:
    fill(old)

    status, text = run("--json", "--final")

    document = json.loads(text)
    [inbox] = document.pop("inboxes")
    assert status == 1
    assert document == {
        "dry_run": False,
        "final": True,
        "agents": 0,
        "others": [],
        "other_keys": 0,
        "complete": False,
    }
    [fault] = inbox.pop("faults")
    assert fault["excerpt"] == "1"
    assert inbox == {
        "inbox": "worker",
        "ready": 1,
        "delayed": 1,
        "reserved": 2,
        "stranded": 1,
        "dead": 1,
        "copies": 0,
        "subscriptions": 1,
        "held": 0,
        "only_listed": 0,
        "unreadable": 1,
        "remaining": 1,
        "waiting": 5,
    }


def test_an_inbox_that_is_fuller_than_it_may_be_is_told_of(run: Run, old: OldInbox) -> None:
    raws = {stored(f"message-{number}"): number for number in range(DEFAULT_QUEUE_SIZE)}
    old.client.zadd(old.scheduled[5], raws)

    status, text = run()

    assert status == 0
    assert "worker: holds 10,000 messages; no more while they reach its queue_size\n" in text


def test_of_many_that_are_left_the_first_are_listed(run: Run, old: OldInbox) -> None:
    for number in range(102):
        old.bury(b"%d" % number)

    text = run()[1]

    assert text.count("left in ") == 100
    assert text.endswith("and 2 more\n")


def test_what_comes_meanwhile_is_told_of(
    run: Run, old: OldInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old application sends between the look and the end of the migration."""
    old.schedule(stored("message-1"))
    monkeypatch.setattr(
        "tta_agent_coordination.migrate.core._Job.carry_out",
        lambda _job: old.schedule(stored("message-2")),
    )

    status, text = run()

    assert status == 1
    assert "worker: 4 entries are in the old keys by now; run it again\n" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: --from-prefix"),
        (["--from-prefix", ""], "argument --from-prefix: it must not be empty"),
        (["--from-prefix", "ao", "--to-prefix", "{"], "argument --to-prefix: key_prefix must be"),
        (["--from-prefix", "ao", "--max-message-bytes", "1"], "must be at least 64, not 1"),
    ],
)
@pytest.mark.backend("fakeredis")
def test_wrong_arguments_are_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["migrate", *arguments])
    assert expected in capsys.readouterr().err


@pytest.mark.backend("cluster")
def test_a_cluster_is_refused_in_one_line(
    backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backend.url is not None
    url = backend.url.replace("redis://", "redis+cluster://")
    assert main(["migrate", "--from-prefix", "ao", "--url", url]) == 2
    assert "migrate needs one server" in capsys.readouterr().err


def fill(old: OldInbox) -> None:
    """Something of everything."""
    old.schedule(stored("message-1"))
    old.schedule(stored("message-2"), due=old.now() + 60 * SECOND)
    old.reserve(stored("message-3"), "t3", 1)
    old.reserve(stored("message-4"), "t4", old.now() + 60 * SECOND)
    old.bury(stored("message-5"))
    old.bury(b"1")
    old.audit(stored("message-6"))
    old.subscribe("event")
