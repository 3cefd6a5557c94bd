"""The public interface changes only on purpose."""

from tests.support.public_api import FILE, described


def test_the_public_interface_is_the_one_written_down() -> None:
    # After a change on purpose: python -m tests.support.public_api --write
    assert described().splitlines() == FILE.read_text("utf-8").splitlines()
