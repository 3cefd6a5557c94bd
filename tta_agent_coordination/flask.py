"""The extension for Flask; needs the extra ``flask``.

::

    coordination = AgentCoordination()

    def create_app():
        app = Flask(__name__)
        app.config["TTA_COORDINATION_URL"] = "redis://..."
        coordination.init_app(app)
        app.register_blueprint(health, url_prefix="/health")
        return app
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

try:
    import click
    from flask import Blueprint, Flask, current_app, jsonify
    from flask.cli import with_appcontext
except ImportError as error:
    raise ImportError(
        "Flask is not installed: pip install 'tta-agent-coordination[flask]'"
    ) from error

from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError, CoordinationError
from tta_agent_coordination.glue.coordination import LIVE, Coordination
from tta_agent_coordination.glue.serving import serve
from tta_agent_coordination.glue.settings import Settings
from tta_agent_coordination.glue.surrounded import SurroundedAgent
from tta_agent_coordination.registry.core import RedisAgentRegistry

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["EXTENSION", "AgentCoordination", "health"]

EXTENSION = "tta_coordination"
"""The key of ``app.extensions``."""
_PREFIX = "TTA_COORDINATION_"


class AgentCoordination:
    """A coordinator and a registry for each application, shared by its threads.

    Configured by ``TTA_COORDINATION_URL``, ``TTA_COORDINATION_KEY_PREFIX``,
    ``TTA_COORDINATION_CALL_TIMEOUT``, and so on: every option of `RedisMessageCoordinator` and
    `RedisAgentRegistry`, in capitals. They are made with the application, connect when first
    used, and have their own connections in every process that is forked.
    """

    def __init__(self, app: Flask | None = None) -> None:
        """Make the extension, for one application or, with `init_app`, for several."""
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the configuration of an application; nothing is connected yet.

        Raises:
            ConfigurationError: The configuration is wrong, or it was done before.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(f"init_app was called before for {app.name!r}: call it once")
        config: dict[str, Any] = dict(app.config)
        given = {
            key.removeprefix(_PREFIX): value
            for key, value in config.items()
            if key.startswith(_PREFIX)
        }
        app.extensions[EXTENSION] = Coordination(Settings(given, _PREFIX.__add__))
        app.cli.add_command(_run_agent)

    @property
    def coordinator(self) -> RedisMessageCoordinator:
        """Of the current application."""
        return _current().coordinator

    @property
    def registry(self) -> RedisAgentRegistry:
        """Of the current application."""
        return _current().registry

    def in_app_context(self, app: Flask, agent: AgentProxy) -> AgentProxy:
        """Return an agent like `agent` whose every call is in an application context of its own.

        So what belongs to a context, as a database session may, lives for one message.
        """
        return SurroundedAgent(agent, app.app_context)

    def close(self) -> None:
        """Close what the current application has open; for tests, and for scripts that go on."""
        _current().close()


health = Blueprint("tta_coordination_health", __name__)
"""Answers ``/live`` while the process can answer at all, and ``/ready`` while Redis answers it.

Both answer with JSON; ``/ready`` with status 503 when Redis does not answer within
``TTA_COORDINATION_READY_TIMEOUT`` (1 second).
"""


@health.get("/live")
def live() -> ResponseReturnValue:
    """Answer that this process can answer."""
    return jsonify(LIVE), 200, _UNCACHED


@health.get("/ready")
def ready() -> ResponseReturnValue:
    """Answer whether Redis answers."""
    readiness = _current().readiness()
    return jsonify(readiness.document()), readiness.status, _UNCACHED


_UNCACHED = {"Cache-Control": "no-store"}


def _current() -> Coordination:
    try:
        return current_app.extensions[EXTENSION]
    except KeyError:
        raise ConfigurationError(
            f"{current_app.name!r} has no agent coordination: call init_app({current_app.name})"
        ) from None


@click.command("run-agent")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--threads", type=int, help="Messages handled at once.")
@click.option("--visibility-timeout", type=float, help="Seconds of a lease, which is renewed.")
@click.option("--max-handler-seconds", type=float, help="Seconds that a handler may take.")
@click.option("--drain-timeout", type=float, help="Seconds that handlers get at SIGTERM.")
@click.option("--no-registry", is_flag=True, help="Do not register the agents.")
@with_appcontext
def _run_agent(paths: Sequence[str], no_registry: bool, **options: Any) -> None:
    """Serve the agents at dotted PATHs until SIGTERM or SIGINT, then drain.

    Each call of an agent is in an application context of its own.
    """
    app = cast("Flask", cast("Any", current_app)._get_current_object())  # for other threads
    try:
        serve(_current(), paths, app.app_context, registered=not no_registry, **options)
    except CoordinationError as error:
        raise click.ClickException(str(error)) from error
