"""The server of the tutorial, on a port that you name."""

# [tutorial_server]
import sys

from tta_agent_coordination.embedded import EmbeddedServer

with EmbeddedServer(port=int(sys.argv[1])) as server:
    print(f"export TTA_COORDINATION_URL={server.url}", flush=True)
    input("Enter stops the server, and all it holds is gone: ")
# [/tutorial_server]
