"""The same with unittest: run it with ``python -m unittest examples/test_greeter_unittest.py``."""

import unittest

# [unittest]
from tta_agent_coordination import AgentId, AgentMessage
from tta_agent_coordination.testing import Sandbox, inbox_of


class DoorTest(unittest.TestCase):
    """A sandbox for each test; it is closed by itself."""

    def setUp(self) -> None:
        self.sandbox = self.enterContext(Sandbox(coordinator={"retry_attempts": 0}))

    def test_somebody_who_knocks_is_announced(self) -> None:
        door, greeter = AgentId("door"), AgentId("greeter")
        knock = AgentMessage(door, greeter, {"name": "Ada"})

        self.sandbox.coordinator.send_message(door, greeter, knock)

        self.assertEqual(len(inbox_of(self.sandbox.coordinator, greeter).ready), 1)


# [/unittest]


if __name__ == "__main__":
    unittest.main()
