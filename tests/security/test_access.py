"""The rights that the library needs are listed, are enough, and are no more than it needs."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

import tta_agent_coordination
from tests.contract.given import ONE, SENDER, WORKER, message
from tests.contract.test_shared_server import use_everything
from tests.support.backends import LIMITED, Backend
from tests.support.servers import Client, LocalCluster, LocalServer, binary_of, close_client
from tests.support.waiting import eventually
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    ConfigurationError,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.transport import access, scripts
from tta_agent_coordination.transport.access import PASSWORD, acl_line
from tta_agent_coordination.transport.scripts import Script

pytestmark = pytest.mark.guarantee("2.15")

PACKAGE = Path(tta_agent_coordination.__file__).parent
PREFIX = "mine:in/use_1.0-b"

NO_CLIENTS = {"embedded", "server_process", "demo", "chaos", "proxy", "testing"}
"""Parts that talk to servers of their own, where they may do anything, or to none."""
NO_COMMANDS = {
    ("cli/__init__.py", "COMMAND"),
    ("testing/trouble.py", "AUTH"),
    ("transport/scripts.py", "KEYS"),
    ("transport/faults.py", "READONLY"),
}
"""Words that are not meant as the commands whose names they are."""
OPENED_BY_REDIS_PY = {"select", "client|setname", "cluster|slots", "command"}
OPEN_TO_ALL = {"hello"}
"""What every user may call."""


def called_by_scripts() -> set[str]:
    loaded = [found for found in vars(scripts).values() if isinstance(found, Script)]
    assert len(loaded) == len(list((PACKAGE / "lua").glob("*.lua")))
    texts = [found.source for found in loaded]
    calls = [call for text in texts for call in re.findall(r"redis\.p?call\b.{,20}", text)]
    names = [re.match(r"redis\.p?call\('([A-Z]+)'", call) for call in calls]
    assert all(names), "a call whose command is no plain word: the list cannot be checked"
    return {name[1].lower() for name in names if name}


def sent_by_the_code(known: set[str]) -> set[str]:
    """Every word in the code that is a command of the server."""
    found = set[str]()
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name.partition("/")[0].removesuffix(".py") in NO_CLIENTS or name.endswith("/access.py"):
            continue
        words = [
            (name, node.value)
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.Constant) and node.value in known
        ]
        found |= {word.lower() for where, word in words if (where, word) not in NO_COMMANDS}
    return found


@pytest.fixture
def known(client: Client) -> set[str]:
    """The names of all commands of the newest server."""
    return {name.upper() for name in client.command()}


def listed(*grants: access.Grant) -> set[str]:
    return {grant.command for grant in grants}


@pytest.mark.backend("valkey")
def test_every_command_is_listed_and_none_besides(known: set[str]) -> None:
    issued = (called_by_scripts() | sent_by_the_code(known)) - OPEN_TO_ALL
    grants = listed(*access.GRANTS, *access.DOCTOR_GRANTS, *access.MIGRATION_GRANTS)
    families = {command.partition("|")[0] for command in grants}

    assert issued <= families, "add them to transport/access.py, with the reason"
    needless = families - issued - {name.partition("|")[0] for name in OPENED_BY_REDIS_PY}
    assert not needless, "nothing calls them any more"


def test_no_command_is_listed_twice() -> None:
    grants = (*access.GRANTS, *access.DOCTOR_GRANTS, *access.MIGRATION_GRANTS)
    assert len(grants) == len(listed(*grants))
    assert all(grant.reason for grant in grants)


def test_the_line_names_the_user_the_keys_and_each_command() -> None:
    line = acl_line("shop", user="shop-agents")
    assert line.startswith("ACL SETUSER shop-agents reset on >PASSWORD ~shop:* +")
    assert line.split(" ")[7:] == sorted(f"+{name}" for name in listed(*access.GRANTS))
    more = set(acl_line("shop", doctor=True).split(" ")) - set(acl_line("shop").split(" "))
    assert more == {"+info", "+config|get", "+acl|whoami"}


@pytest.mark.parametrize(
    ("prefix", "user"), [("a*", "agents"), ("a b", "agents"), ("a", "x +@all")]
)
def test_the_line_lets_nothing_slip_in(prefix: str, user: str) -> None:
    with pytest.raises(ValueError, match="characters of"):
        acl_line(prefix, user=user)


def obey(admin: redis.Redis, line: str) -> None:
    admin.execute_command(*line.replace(PASSWORD, "secret").split(" "))


@contextmanager
def limited_client(name: str) -> Iterator[Client]:
    """A client of a new server, as a user made with the documented line."""
    kind = LocalCluster if name == "cluster" else LocalServer
    with kind(binary_of(name)) as server:
        for node in server.nodes if isinstance(server, LocalCluster) else [server]:
            obey(node.admin, acl_line(PREFIX))
        connect = RedisCluster if isinstance(server, LocalCluster) else redis.Redis
        client = connect.from_url(server.url, username="agents", password="secret")
        yield client
        close_client(client)


@pytest.fixture(params=["valkey", "redis62", "cluster", "path"])
def limited(request: pytest.FixtureRequest) -> Iterator[Client]:
    with limited_client(request.param) as client:
        yield client


class Echo(Agent):
    def process(self, payload: dict) -> dict:
        return payload


def test_the_user_of_the_line_can_do_everything(limited: Client) -> None:
    with (
        RedisMessageCoordinator(limited, PREFIX) as coordinator,
        RedisAgentRegistry(limited, PREFIX) as registry,
    ):
        use_everything(coordinator)
        with AgentWorker(Echo(ONE), coordinator, registry, threads=2):
            answer = coordinator.request(SENDER, ONE, {"n": 1}, timeout=10.0)
            eventually(lambda: registry.discover("worker"), timeout=10, what="not registered")
        assert answer.payload == {"n": 1}
        registry.detect_and_recover()


def test_the_user_of_the_line_cannot_touch_other_keys(limited: Client) -> None:
    for prefix in ("mine", "mine:in/use_1.0-bx", "other"):
        with (
            RedisMessageCoordinator(limited, prefix) as coordinator,
            pytest.raises(ConfigurationError, match="permissions of that user"),
        ):
            coordinator.send_message(SENDER, WORKER, message())
    with pytest.raises(redis.exceptions.NoPermissionError, match="key"):
        limited.hget("other", "field")
    with pytest.raises(redis.exceptions.NoPermissionError):
        limited.execute_command("CONFIG GET", "requirepass", target_nodes="random")


@pytest.mark.backend("valkey", "redis62")
def test_coordinators_of_the_suite_are_the_limited_user_and_tests_are_not(
    backend: Backend, client: Client, key_prefix: str
) -> None:
    assert client.acl_whoami() == "default"
    with RedisMessageCoordinator(client, key_prefix) as coordinator:
        coordinator.stats(WORKER)
        users = {entry["user"] for entry in backend.client().client_list()}
        assert users == {"default", LIMITED[0]}
    with (
        RedisMessageCoordinator(client, "foreign") as coordinator,
        pytest.raises(ConfigurationError),
    ):
        coordinator.stats(WORKER)
