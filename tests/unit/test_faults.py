"""What each error of Redis means for a call."""

import pytest
import redis
from redis import exceptions

from tests.conftest import OwnServers
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.errors import (
    ConfigurationError,
    CoordinationError,
    CoordinatorAccessError,
    CoordinatorUnavailableError,
)
from tta_agent_coordination.transport.faults import Fault, UnknownPrimaryError, fault_of, translate

BY_CLASS = [
    (exceptions.AskError("1 127.0.0.1:7000"), Fault.NOT_NOW),
    (exceptions.AuthenticationError("WRONGPASS"), Fault.REFUSED),
    (exceptions.AuthorizationError("no"), Fault.REFUSED),
    (exceptions.BusyLoadingError("loading"), Fault.NOT_NOW),
    (exceptions.ClusterDownError("CLUSTERDOWN"), Fault.NOT_NOW),
    (exceptions.ConnectionError("gone"), Fault.LOST),
    (exceptions.MasterDownError("MASTERDOWN"), Fault.NOT_NOW),
    (exceptions.MovedError("1 127.0.0.1:7000"), Fault.REDIRECTED),
    (exceptions.NoPermissionError("NOPERM"), Fault.REFUSED),
    (exceptions.NoScriptError("NOSCRIPT"), Fault.UNKNOWN_SCRIPT),
    (exceptions.OutOfMemoryError("OOM"), Fault.FULL),
    (exceptions.ReadOnlyError("read only"), Fault.NOT_NOW),
    (exceptions.RedisClusterException("no node"), Fault.LOST),
    (exceptions.TimeoutError("slow"), Fault.LOST),
    (exceptions.TryAgainError("TRYAGAIN"), Fault.NOT_NOW),
    (UnknownPrimaryError("no such name"), Fault.MISNAMED),
    (exceptions.InvalidResponse("?"), Fault.FAILED),
    (exceptions.DataError("?"), Fault.FAILED),
    (ConnectionResetError("reset"), Fault.LOST),
    (TimeoutError("the deadline"), Fault.LOST),
    (OSError("no such host"), Fault.LOST),
    (ValueError("?"), Fault.FAILED),
]

BY_CODE = {
    "ASK 1 127.0.0.1:7000": Fault.NOT_NOW,
    "BUSY Redis is busy running a script.": Fault.NOT_NOW,
    "CLUSTERDOWN The cluster is down": Fault.NOT_NOW,
    "LOADING Redis is loading the dataset in memory": Fault.NOT_NOW,
    "MASTERDOWN Link with MASTER is down": Fault.NOT_NOW,
    "MISCONF Errors writing to the AOF file": Fault.NOT_NOW,
    "MOVED 1 127.0.0.1:7000": Fault.REDIRECTED,
    "NOAUTH Authentication required.": Fault.REFUSED,
    "NOPERM this user has no permissions": Fault.REFUSED,
    "NOREPLICAS Not enough good replicas to write.": Fault.NOT_NOW,
    "NOSCRIPT No matching script.": Fault.UNKNOWN_SCRIPT,
    "OOM command not allowed when used memory > 'maxmemory'.": Fault.FULL,
    "READONLY You can't write against a read only replica.": Fault.NOT_NOW,
    "TRYAGAIN Multiple keys request during rehashing of slot": Fault.NOT_NOW,
    "UNBLOCKED client unblocked via CLIENT UNBLOCK": Fault.NOT_NOW,
    "UNKILLABLE Sorry the script already executed write commands": Fault.NOT_NOW,
    "WAIT cannot be used with replica instances.": Fault.NOT_NOW,
    "WRONGPASS invalid username-password pair": Fault.REFUSED,
    "WRONGTYPE Operation against a key holding the wrong kind of value": Fault.FAILED,
    "ERR unknown command": Fault.FAILED,
}


@pytest.mark.parametrize(("error", "fault"), BY_CLASS, ids=lambda value: type(value).__name__)
def test_the_class_of_an_error_says_what_it_means(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


@pytest.mark.parametrize(("text", "fault"), BY_CODE.items())
def test_where_there_is_no_class_the_code_of_the_reply_does(text: str, fault: Fault) -> None:
    assert fault_of(redis.ResponseError(text)) is fault


@pytest.mark.parametrize(("text", "fault"), BY_CODE.items())
def test_within_scripts_the_code_stands_in_the_middle(text: str, fault: Fault) -> None:
    six_two = f"Error running script (call to f_0123): @user_script:7: -{text}"
    seven = f"{text} script: 0123, on @user_script:7."
    assert fault_of(redis.ResponseError(six_two)) is fault
    assert fault_of(redis.ResponseError(seven)) is fault


@pytest.mark.parametrize("kind", ["valkey", "redis62"])
def test_a_script_that_meets_an_error_of_a_real_server(own_server: OwnServers, kind: str) -> None:
    server = own_server(kind)
    server.admin.config_set("maxmemory", 1)
    with pytest.raises(redis.RedisError) as caught:
        server.admin.eval("return redis.call('SET', KEYS[1], '1')", 1, "key")
    assert fault_of(caught.value) is Fault.FULL


@pytest.mark.parametrize("kind", ["valkey", "redis62"])
def test_a_database_that_the_server_does_not_have_is_a_mistake_in_the_url(
    own_server: OwnServers, kind: str
) -> None:
    with (
        RedisMessageCoordinator.from_url(f"{own_server(kind, tcp=True).url}/99") as coordinator,
        pytest.raises(ConfigurationError, match=r"no database of that number: .*databases"),
    ):
        coordinator.inboxes()


@pytest.mark.parametrize("text", ["ERR invalid DB index", "DB index is out of range"])
def test_servers_name_a_wrong_database_in_different_words(text: str) -> None:
    error = translate(redis.ResponseError(text), Fault.FAILED)
    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.REFUSED, CoordinatorAccessError, "password"),
        (Fault.FULL, CoordinatorUnavailableError, "maxmemory"),
        (Fault.MISNAMED, ConfigurationError, "the reason"),
        (Fault.REDIRECTED, ConfigurationError, r"redis\+cluster://"),
        (Fault.FAILED, CoordinationError, "the reason"),
    ],
)
def test_errors_say_what_to_do(fault: Fault, kind: type[Exception], says: str) -> None:
    error = translate(redis.ResponseError("the reason"), fault)
    assert type(error) is kind
    with pytest.raises(kind, match=says):
        raise error
