"""Old inboxes, migrations and coordinators on the same server."""

from collections.abc import Callable, Iterator

import pytest

from tests.migrate.migrator import as_migrator
from tests.migrate.old import OldInbox
from tests.support.servers import Client
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.migrate import Migration, Report

Migrate = Callable[..., Report]


@pytest.fixture
def old_prefix(key_prefix: str) -> str:
    """Deleted with what is under ``key_prefix``."""
    return f"{key_prefix}-old"


@pytest.fixture
def old(client: Client, old_prefix: str) -> OldInbox:
    """The old inbox of ``worker``."""
    return OldInbox(client, old_prefix)


@pytest.fixture
def migrate(client: Client, old_prefix: str, key_prefix: str) -> Migrate:
    """Run a migration from the old prefix."""

    def migrate(*, max_message_bytes: int = 1024 * 1024, **options: bool) -> Report:
        with Migration(
            as_migrator(client), old_prefix, key_prefix, max_message_bytes=max_message_bytes
        ) as migration:
            return migration.run(**options)

    return migrate


@pytest.fixture
def coordinator(client: Client, key_prefix: str) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator(client, key_prefix) as coordinator:
        yield coordinator
