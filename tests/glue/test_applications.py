"""The examples for Flask and Django as they are deployed: gunicorn, and agents beside it."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OwnServers
from tests.glue.processes import EXAMPLES, ROOT, START, Program, WebServer, gunicorn
from tests.support.code_blocks import blocks, is_shown_by
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tests.workers.given import ASKER, OWN
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)

FLASK, DJANGO = EXAMPLES / "flask_app", EXAMPLES / "django_project"


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


def pricers(server: LocalServer, **env: str) -> Program:
    """Serve a pricer in a process."""
    serve_agents = ("-m", "flask", "--app", "app", "run-agent", "agents.Pricer", "--threads", "4")
    return Program(*serve_agents, cwd=FLASK, env={"TTA_COORDINATION_URL": server.url, **env})


def assert_answers_as_shown(web: WebServer, page: str) -> None:
    """Ask with each ``curl`` of a page, and compare."""
    (shows,) = (one for one in blocks() if one.name.startswith(f"{page}: $ curl "))
    for typed, shown in shows.session:
        _, *options, url = shlex.split(typed)
        path = url.removeprefix("http://127.0.0.1:8000")
        assert path.startswith("/"), typed
        if options:
            assert is_shown_by(shown, web.curl(path, *options)), typed
        else:  # an order is billed soon after it is placed
            eventually(partial(answers, web, path, shown), timeout=START, what=f"no {shown}")


def answers(web: WebServer, path: str, shown: list[str]) -> bool:
    return is_shown_by(shown, web.curl(path))


@pytest.fixture
def shop(server: LocalServer) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(server.url, "shop") as coordinator:
        yield coordinator


def test_a_flask_application_asks_agents_in_another_process(
    server: LocalServer, shop: RedisMessageCoordinator
) -> None:
    env = {"TTA_COORDINATION_URL": server.url}
    agents = pricers(server, FLASK_TTA_COORDINATION_QUEUE_SIZE="9")
    with agents, gunicorn("app:create_app()", cwd=FLASK, **env) as web:
        # given that it is up
        assert web.ask("/health/live").body == {"status": "alive"}
        assert web.ask("/health/ready").status == 200

        # when many ask at once, and somebody asks for what there is not
        with ThreadPoolExecutor(8) as askers:
            answers = list(askers.map(lambda _: web.ask("/prices/tea"), range(40)))
        assert answers == [(200, {"item": "tea", "price": 3})] * 40
        status, refusal = web.ask("/prices/gold")
        assert (status, "there is no gold" in refusal["error"]) == (404, True)

        # and leave a message with an agent
        status, order = web.post_json("/orders", {"item": "coffee"})
        assert status == 202
        assert order["message_id"]
        assert web.post_json("/orders", ["coffee"]).status == 400
        eventually(lambda: shop.internals.held(AgentId("pricer")) == 0, timeout=START)

        # then all is as the page shows
        assert_answers_as_shown(web, "docs/flask.md")

        # and the processes are well without the server too, and say that they are not ready
        server.stop()
        assert web.ask("/prices/tea").status == 503
        eventually(lambda: web.ask("/health/ready").status == 503, timeout=START)
        assert web.ask("/health/live").status == 200
        status, refusal = web.post_json("/orders", {"item": "coffee"})
        assert (status, "Coordinator" in refusal["error"]) == (503, True)
        server.start()
        eventually(lambda: web.ask("/health/ready").status == 200, timeout=START)
    assert agents.status == 0


def test_a_flask_application_whose_agents_have_too_much_to_do_says_so(server: LocalServer) -> None:
    env = {"TTA_COORDINATION_URL": server.url, "FLASK_TTA_COORDINATION_QUEUE_SIZE": "1"}
    with gunicorn("app:create_app()", cwd=FLASK, workers=1, **env) as web:
        assert web.post_json("/orders", {"item": "tea"}).status == 202
        assert web.post_json("/orders", {"item": "tea"}).status == 503
        assert web.ask("/prices/tea") == (503, {"error": "InboxFullError"})


def test_each_process_of_an_agent_is_registered(server: LocalServer) -> None:
    with (
        RedisAgentRegistry.from_url(server.url, "shop") as registry,
        pricers(server) as older,
        pricers(server) as newer,
    ):

        def are_registered(*processes: Program) -> bool:
            found = {str(record.agent_id) for record in registry.discover("pricer")}
            return found == {f"pricer:{socket.gethostname()}-{one.pid}" for one in processes}

        eventually(lambda: are_registered(older, newer), timeout=START)
        newer.end()
        assert are_registered(older)


def test_the_processes_of_a_flask_application_can_serve_agents_themselves(
    server: LocalServer,
) -> None:
    config = ("--config", "agents_inside.py")
    env = {"TTA_COORDINATION_URL": server.url}
    with gunicorn("app:create_app()", *config, cwd=FLASK, workers=2, **env) as web:
        assert web.ask("/prices/tea") == (200, {"item": "tea", "price": 3})
        written = web.end()
    assert web.status == 0
    assert "before a fork" not in written
    assert "Traceback" not in written


def manage(*arguments: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    ran = subprocess.run(
        command,
        cwd=DJANGO,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_django_project_has_its_orders_billed_by_an_agent(
    server: LocalServer, tmp_path: Path
) -> None:
    env = {"TTA_COORDINATION_URL": server.url, "DATABASE": str(tmp_path / "db.sqlite3")}
    manage("migrate", "--verbosity", "0", env=env)
    serve_agents = ("manage.py", "run_agent", "shop.agents.Biller", "--threads", "2")
    agents = Program(*serve_agents, cwd=DJANGO, env=env)
    with agents, gunicorn("project.wsgi", cwd=DJANGO, **env) as web:
        assert web.ask("/health/ready").status == 200
        assert_answers_as_shown(web, "docs/django.md")

        # when orders are placed, some at once
        with ThreadPoolExecutor(4) as customers:
            placed = list(customers.map(lambda n: web.ask("/orders", item=f"item {n}"), range(12)))
        assert {answer.status for answer in placed} == {202}
        numbers = {answer.body["order"] for answer in placed}
        assert len(numbers) == 12

        # then the agent's process bills each of them, and is there to be seen
        def billed() -> bool:
            return all(look(number)["billed_by"] for number in numbers)

        def look(number: int) -> Any:
            return web.ask(f"/orders/{number}").body

        eventually(billed, timeout=START)
        assert {look(number)["billed_by"] for number in numbers} == {f"process {agents.pid}"}
        seen = json.loads(manage("agent_status", "--json", env=env))["agents"]
        assert [agent["agent_id"] for agent in seen] == [
            f"biller:{socket.gethostname()}-{agents.pid}"
        ]
        assert "no issues" in manage("check", env=env)
    assert agents.status == 0


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_an_agent_finishes_what_it_has_in_hand_when_it_is_told_to_end(
    server: LocalServer, shop: RedisMessageCoordinator, tmp_path: Path, framework: str
) -> None:
    # given an agent with a message in hand, and one that waits
    journal = tmp_path / "journal"
    journal.touch()
    env = {
        "TTA_COORDINATION_URL": server.url,
        "DATABASE": ":memory:",
        "JOURNAL": str(journal),
        "PYTHONPATH": str(ROOT),
    }
    command = {
        "flask": ("-m", "flask", "--app", "app", "run-agent"),
        "django": ("manage.py", "run_agent"),
    }[framework]
    options = ("--threads", "1", "--visibility-timeout", "9", "--drain-timeout", "20")
    more = ("--no-registry", "--max-handler-seconds", "60")
    agents = Program(
        *command,
        "tests.glue.agents.Slow",
        *options,
        *more,
        cwd=FLASK if framework == "flask" else DJANGO,
        env=env,
    )
    with agents:
        for wait in (0.7, 0.0):
            shop.send_message(ASKER, OWN, AgentMessage(ASKER, OWN, {"wait": wait}))
        eventually(lambda: "begun" in journal.read_text(), timeout=START)

        # when it gets SIGTERM
        written = agents.end()

    # then it has finished the one, and left the other alone
    assert (agents.status, written) == (0, "")
    assert journal.read_text().split() == ["started", "begun", "ended"]
    stats = shop.stats(OWN)
    assert (sum(stats.ready.values()), stats.leased) == (1, 0)
