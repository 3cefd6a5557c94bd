"""The command that runs a server to try things on."""

import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest
import redis

from tests.support.waiting import eventually
from tta_agent_coordination.cli import main

SCRIPT = Path(sysconfig.get_path("scripts"), "tta-coordination")
PATIENCE = 30.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(number: signal.Signals) -> None:
    with subprocess.Popen(
        [SCRIPT, "server", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url, _, rest = process.stdout.readline().partition(": ")
            assert rest == "Ctrl-C ends it, and all that it holds\n"
            with redis.Redis.from_url(url) as client:
                assert client.ping()
        finally:
            process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    with redis.Redis.from_url(url) as client:
        eventually(lambda: not answers(client))


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize(("port", "why"), [("65536", "they go up to 65535"), ("-1", "no whole")])
def test_a_port_that_is_none_is_refused(
    port: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["server", f"--port={port}"])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
