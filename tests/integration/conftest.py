"""Commands that are run in this process, against a back end."""

from collections.abc import Iterator

import pytest

from tests.integration.given import Ran, Run
from tests.support.backends import Backend
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.cli import main, options


@pytest.fixture
def url(backend: Backend) -> str:
    assert backend.url is not None
    return backend.url.replace(
        "redis://", "redis+cluster://" if backend.name == "cluster" else "redis://"
    )


@pytest.fixture
def run(
    url: str,
    key_prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a command in this process; the address comes from the environment."""
    monkeypatch.setenv(options.URL_VARIABLE, url)

    def run(*arguments: str) -> Ran:
        status = main([*arguments, "--prefix", key_prefix])
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def coordinator(url: str, key_prefix: str) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(url, key_prefix, consumer_name="tester") as coordinator:
        yield coordinator
