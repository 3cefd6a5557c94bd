"""Send and receive one message with the installed wheel: it must hold the Lua files too."""

from importlib import metadata, resources

import tta_agent_coordination
from tta_agent_coordination import AgentId, AgentMessage, LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.embedded import EmbeddedServer

package = resources.files("tta_agent_coordination")
assert "site-packages" in str(package), f"not the installed one: {package}"
assert (package / "py.typed").is_file()
assert metadata.version("tta-agent-coordination") == tta_agent_coordination.__version__

planner, worker = AgentId("planner"), AgentId("worker")
with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
    assert coordinator.send_message(planner, worker, AgentMessage(planner, worker)).delivered
    received = coordinator.receive(worker, wait=1.0)
    assert received is not None
    assert coordinator.ack(worker, received.token) is LeaseOutcome.DONE
print("the installed wheel works")
