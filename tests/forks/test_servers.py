"""Servers that load an application and fork afterwards: gunicorn and uWSGI."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import OwnServers
from tests.glue.processes import ROOT, START, WebServer, gunicorn
from tests.support.servers import LocalServer
from tests.support.waiting import eventually, holds_within

WORKERS = 2

pytestmark = pytest.mark.guarantee("2.16")


def by_gunicorn(server: LocalServer) -> WebServer:
    env = {"REDIS": server.url, "THREADS": "yes"}
    return gunicorn("tests.forks.preloaded", cwd=ROOT, workers=WORKERS, **env)


def uwsgi(*more: str, **env: str) -> WebServer:
    run = "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])"
    options = (
        "--master",
        "--no-orphans",
        "--processes",
        str(WORKERS),
        "--enable-threads",
        "--die-on-term",
    )
    options += ("--need-app", "--disable-logging", "--virtualenv", sys.prefix)
    address = ("--http-socket", "fd://{fd}", "--pythonpath", str(ROOT))
    module = ("--module", "tests.forks.preloaded")
    return WebServer("-c", run, *options, *more, *address, *module, cwd=ROOT, env=env)


def test_what_was_made_and_started_before_the_fork_is_used_after_it(
    own_server: OwnServers,
) -> None:
    server = own_server()
    with by_gunicorn(server) as web:

        def ask(path: str) -> dict[str, Any]:
            answer = web.ask(path)
            assert answer.status == 200
            return answer.body

        # given a worker that was started before the fork, and a call and a wait in progress
        answers = of_each_process(ask, "/health")
        assert len(answers) == WORKERS

        # then the children have no thread of it, and say so
        for answer in answers.values():
            assert (answer["running"], answer["threads"], answer["beats"]) == (False, [], False)
            assert f"forked from process {web.pid}" in answer["error"]

        # and each child has connections of its own
        clients = of_each_process(ask, "/client")
        assert len({answer["client"] for answer in clients.values()}) == WORKERS

        # and each reads its own replies, served by the parent
        with ThreadPoolExecutor(8) as askers:
            found = list(askers.map(lambda n: ask(f"/ask?number={n}"), range(40)))
        assert [answer["echo"] for answer in found] == list(range(40))
        assert {answer["by"] for answer in found} == {web.pid}

        # and a child serves once it is asked to, also when the others and the parent are gone
        child = ask("/start")
        assert child["running"]
        assert any(name.startswith("tta-handle") for name in child["threads"])
        eventually(lambda: ask("/ask?number=7")["by"] == child["pid"], timeout=START)
    written = web.end()
    assert written.count("greeter:1 was started before a fork") == 1
    assert "Traceback" not in written


@pytest.mark.skipif(
    importlib.util.find_spec("pyuwsgi") is None, reason="pyuwsgi has no wheel for this Python"
)
@pytest.mark.parametrize("options", [(), ("--py-call-osafterfork",)], ids=["untold", "told"])
def test_children_of_uwsgi_do_not_share_connections(
    own_server: OwnServers, options: tuple[str, ...]
) -> None:
    # given a uWSGI, which tells Python of a fork if asked to, and a coordinator that was used
    # before it; with threads at that time, it may hang by itself
    server = own_server()
    with uwsgi(*options, REDIS=server.url, THREADS="no") as web:

        def ask(path: str) -> dict[str, Any]:
            answer = web.ask(path)
            assert answer.status == 200
            return answer.body

        # then each child has connections of its own, and can serve
        clients = of_each_process(ask, "/client")
        assert len({answer["client"] for answer in clients.values()}) == WORKERS
        child = ask("/start")
        assert child["running"]
        assert ask("/ask?number=7")["echo"] == 7


def of_each_process(ask: Callable[[str], dict[str, Any]], path: str) -> dict[int, dict[str, Any]]:
    """Ask until every process has answered."""
    answers: dict[int, dict[str, Any]] = {}

    def all_answered() -> bool:
        with ThreadPoolExecutor(2 * WORKERS) as askers:
            for answer in askers.map(ask, [path] * 2 * WORKERS):
                answers[answer["pid"]] = answer
        return len(answers) == WORKERS

    assert holds_within(START, all_answered), f"of {WORKERS} processes, {len(answers)} answer"
    return answers


def test_a_killed_parent_leaves_no_command_behind(own_server: OwnServers) -> None:
    # given a gunicorn whose parent waits for messages
    server = own_server()
    with by_gunicorn(server) as web:
        assert web.ask("/health").status == 200
        assert server.admin.info("clients")["blocked_clients"]

        # when it is killed
        os.kill(web.pid, signal.SIGKILL)

        # then nobody waits at the server, though its children may live on for a while
        eventually(
            lambda: not server.admin.info("clients")["blocked_clients"],
            timeout=START,
            what="a dead process waits",
        )
