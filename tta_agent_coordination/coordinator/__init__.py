"""The message coordinator on Redis.

`core` is the class that users make; what it promises is divided among `outbox` (send), `inbox`
(receive and settle), `dead_letters`, `subscriptions` and `directory` (which inboxes there are).
All reach Redis through `calls`, which binds the scripts.
"""

from tta_agent_coordination.coordinator.core import RedisMessageCoordinator

__all__ = ["RedisMessageCoordinator"]
