"""Which back ends a test runs over, where it is not each that there is."""

import pytest

ALL = pytest.mark.backend("fakeredis", "sandbox", "valkey", "redis62", "cluster")
"""One of each kind: for what takes long, or where a server of another version tells nothing new."""

REAL = pytest.mark.backend("valkey", "cluster")
"""Those that wait at a server, with one node and with several."""

ONE_BACKEND = pytest.mark.backend("valkey")
"""For what no other server could answer otherwise."""
