"""A Flask application that asks agents.

Start it with ``gunicorn --workers 2 --preload 'app:create_app()'`` and, in another process, the
agents with ``flask --app app run-agent agents.Pricer``. Both find the server by the environment
variable ``TTA_COORDINATION_URL``.
"""

# [app]
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    CoordinatorUnavailableError,
    InboxFullError,
    RemoteAgentError,
    RequestTimeoutError,
)
from tta_agent_coordination.flask import AgentCoordination, health

coordination = AgentCoordination()
shop, pricer = AgentId("shop"), AgentId("pricer")  # the inbox that all pricers share


def create_app() -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config.from_mapping(TTA_COORDINATION_KEY_PREFIX="shop", TTA_COORDINATION_CALL_TIMEOUT=2.0)
    app.config.from_prefixed_env()  # FLASK_TTA_COORDINATION_URL, …
    coordination.init_app(app)
    app.register_blueprint(health, url_prefix="/health")
    app.add_url_rule("/prices/<item>", view_func=price)
    app.add_url_rule("/orders", view_func=order, methods=["POST"])
    app.register_error_handler(CoordinatorUnavailableError, come_later)
    app.register_error_handler(InboxFullError, come_later)
    return app


def price(item: str) -> ResponseReturnValue:
    """Ask an agent, and answer with its answer."""
    try:
        answer = coordination.coordinator.request(shop, pricer, {"item": item}, timeout=10.0)
    except RemoteAgentError as error:
        return jsonify(error=str(error)), 404
    except RequestTimeoutError as error:
        return jsonify(error=str(error)), 504
    return jsonify(answer.payload)


def order() -> ResponseReturnValue:
    """Leave a message with an agent, and answer at once."""
    try:
        message = AgentMessage(shop, pricer, request.get_json())
    except TypeError as error:  # JSON, but no object
        return jsonify(error=str(error)), 400
    result = coordination.coordinator.send_message(shop, pricer, message)
    return jsonify(message_id=result.message_id), 202 if result.delivered else 503


def come_later(error: Exception) -> ResponseReturnValue:
    """Answer that Redis is away, or that the agents have too much to do."""
    return jsonify(error=type(error).__name__), 503  # its text may name hosts


# [/app]
