"""The user as whom migrations of the tests run."""

import redis

from tests.support.backends import TwoUsersPool
from tta_agent_coordination.transport.access import GRANTS, MIGRATION_GRANTS

USER, PASSWORD = "migrator", "password-of-migrator"

_RIGHTS = sorted({f"+{grant.command}" for grant in (*GRANTS, *MIGRATION_GRANTS)})


def as_migrator(client: redis.Redis) -> redis.Redis:
    """Have a migration that is given this client log in as one who may do what it needs.

    fakeredis knows no users.
    """
    if isinstance(client.connection_pool, TwoUsersPool):
        rules = ("reset", "on", f">{PASSWORD}", "~test*", *_RIGHTS)
        client.execute_command("ACL SETUSER", USER, *rules)
        client.connection_pool.connection_kwargs |= {"username": USER, "password": PASSWORD}
    return client
