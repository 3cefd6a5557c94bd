"""What a process wrote down stays, however it ends."""

import signal
import subprocess
import sys
from pathlib import Path

from tta_agent_coordination.chaos.history import Diary, Event, origin_of, read_all

DIES = """
import os, signal, sys
from pathlib import Path
from tta_agent_coordination.chaos.history import Diary
diary = Diary(Path(sys.argv[1]), "victim")
for number in range(1000):
    diary.write("sent", f"m-{number}")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_that_was_written_dies_with_its_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DIES, tmp_path], timeout=30, check=False, stdin=subprocess.DEVNULL
    )

    assert ended.returncode == -signal.SIGKILL
    assert [event.message_id for event in read_all(tmp_path)] == [f"m-{n}" for n in range(1000)]


def test_diaries_are_read_in_the_order_of_what_happened(tmp_path: Path) -> None:
    one, other = Diary(tmp_path, "one"), Diary(tmp_path, "other")
    one.write("sending", "m-1", priority=5)
    other.write("received", "m-1", token="t:m-1", attempts=2)
    one.write("sent", "m-1", priority=5, outcome="stored")
    one.close()
    other.close()

    first, second, third = read_all(tmp_path)

    assert first == Event("sending", "one", first.at, "m-1", priority=5)
    assert second == Event("received", "other", second.at, "m-1", token="t:m-1", attempts=2)
    assert third == Event("sent", "one", third.at, "m-1", priority=5, outcome="stored")


def test_a_forked_process_is_told_by_its_origin() -> None:
    assert [origin_of("consume1+0"), origin_of("consume1")] == ["consume1", "consume1"]
