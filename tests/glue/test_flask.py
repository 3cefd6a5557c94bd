"""The extension for Flask, with its own test client and command line."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, current_app, has_app_context

from tests.support.backends import Backend
from tests.workers.given import ASKER, LONG, OWN, Scripted, Serve
from tta_agent_coordination import ConfigurationError, RedisMessageCoordinator
from tta_agent_coordination.flask import EXTENSION, AgentCoordination, health
from tta_agent_coordination.proxy import FaultProxy

Apps = Callable[..., Flask]

extension = AgentCoordination()


@pytest.fixture
def apps(key_prefix: str) -> Iterator[Apps]:
    """Make applications, which are closed after the test."""
    made: list[Flask] = []

    def make(client: object, **config: Any) -> Flask:
        app = Flask("shop")
        app.config.update(TTA_COORDINATION_CLIENT=client, TTA_COORDINATION_KEY_PREFIX=key_prefix)
        app.config.update(config)
        extension.init_app(app)
        app.register_blueprint(health, url_prefix="/health")
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            extension.close()


def test_a_view_uses_the_coordinator_and_the_registry_of_its_application(
    backend: Backend, apps: Apps
) -> None:
    # given two applications with one extension
    app, other = apps(backend.client()), apps(backend.client())

    @app.get("/")
    def view() -> dict[str, Any]:
        extension.registry.register(Scripted())
        assert extension.coordinator is current_app.extensions[EXTENSION].coordinator
        return {
            "held": extension.coordinator.stats(OWN).leased,
            "known": [str(record.agent_id) for record in extension.registry.list_registered()],
        }

    # then each has its own
    assert app.test_client().get("/").json == {"held": 0, "known": ["greeter:1"]}
    assert app.extensions[EXTENSION] is not other.extensions[EXTENSION]


@pytest.mark.backend("fakeredis")
def test_the_configuration_is_checked_when_the_application_is_made(
    backend: Backend, apps: Apps
) -> None:
    with pytest.raises(ConfigurationError, match=r"TTA_COORDINATION_QUEUESIZE; did you mean TTA_"):
        apps(backend.client(), TTA_COORDINATION_QUEUESIZE=1)
    text = r"^TTA_COORDINATION_QUEUE_SIZE must be a whole number, not '7' \(str\); what comes from"
    with pytest.raises(ConfigurationError, match=text):
        apps(backend.client(), TTA_COORDINATION_QUEUE_SIZE="7")
    app = apps(backend.client())
    with pytest.raises(ConfigurationError, match="init_app was called before for 'shop'"):
        extension.init_app(app)


@pytest.mark.backend("fakeredis")
def test_an_application_without_the_extension_is_told_what_to_do(backend: Backend) -> None:
    del backend
    with (
        Flask("bare").app_context(),
        pytest.raises(ConfigurationError, match=r"'bare' has no agent coordination: call init_app"),
    ):
        assert extension.coordinator


def test_the_application_can_be_given_at_once() -> None:
    app = Flask("shop")
    only = AgentCoordination(app)
    with app.app_context():
        assert isinstance(only.coordinator, RedisMessageCoordinator)
        only.close()


def test_liveness_and_readiness_are_told(backend: Backend, apps: Apps) -> None:
    web = apps(backend.client()).test_client()
    live, ready = web.get("/health/live"), web.get("/health/ready")
    assert (live.status_code, live.json) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json["status"]) == (200, "ready")
    assert {live.headers["Cache-Control"], ready.headers["Cache-Control"]} == {"no-store"}


@pytest.mark.backend("valkey")
def test_an_application_whose_server_is_silent_is_alive_and_not_ready(
    backend: Backend, proxy: FaultProxy, apps: Apps
) -> None:
    app = apps(backend.client_through(proxy), TTA_COORDINATION_READY_TIMEOUT=0.2)
    web = app.test_client()
    proxy.black_hole()
    ready = web.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json["status"] == "not ready"
    assert ready.json["redis"]["error"] == "CoordinatorUnavailableError"
    assert ready.json["redis"]["seconds"] < 3
    assert web.get("/health/live").status_code == 200


def test_an_agent_can_work_in_an_application_context(
    backend: Backend,
    apps: Apps,
    coordinators: Callable[..., RedisMessageCoordinator],
    key_prefix: str,
    serve: Serve,
) -> None:
    app = apps(backend.client())
    coordinator = coordinators(backend.client(), key_prefix)
    agent = Scripted(lambda _: {"app": current_app.name})
    serve(extension.in_app_context(app, agent), coordinator)
    reply = coordinator.request(ASKER, OWN, {}, timeout=LONG)
    assert reply.payload == {"app": "shop"}
    assert not has_app_context()


@pytest.mark.backend("fakeredis")
def test_a_command_says_in_one_line_what_is_wrong(backend: Backend, apps: Apps) -> None:
    run = apps(backend.client()).test_cli_runner()
    wrong = run.invoke(args=["run-agent", "tests.glue.agents.Nothing", "--no-registry"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("Error: there is no agent 'tests.glue.agents.Nothing': ")
    few = run.invoke(args=["run-agent", "tests.glue.agents.Echo", "--threads", "0"])
    assert "threads must be" in few.output


BLOCKED = """
import sys
sys.modules["{name}"] = None
try:
    import tta_agent_coordination.{name}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["flask", "django"])
def test_without_the_framework_the_extra_is_named(name: str) -> None:
    code = BLOCKED.format(name=name)
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert f"pip install 'tta-agent-coordination[{name}]'" in ran.stdout
