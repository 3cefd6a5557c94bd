"""Addresses of servers as URLs."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.connection

from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.connections import ClusterAddress

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")


_SCHEME = re.compile(r"[a-z][a-z0-9+]{0,30}")
# redis-py's own types are not complete.
_CLIENT = cast("Any", redis.Redis)
_PARSER = cast("Any", redis.connection)


def target_of(url: str) -> redis.Redis | ClusterAddress:
    """Return what `url` points to, without connecting.

    Args:
        url: ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` with TLS,
            ``unix://[user:password@]/path[?db=0]``, ``redis+cluster://host:port[,host:port]``.

    Raises:
        TypeError: It is no text.
        ConfigurationError: It is none of these. The text never shows a password.
    """
    # Nothing of the URL is shown but its scheme: anything else may be a password.
    if not isinstance(cast("object", url), str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        shown = f", not {scheme!r}" if separator and _SCHEME.fullmatch(scheme) else ""
        raise ConfigurationError(
            f"the URL must begin with one of {', '.join(f'{known}://' for known in SCHEMES)}{shown}"
        )
    if scheme != "unix" and "@" in rest.partition("?")[0].partition("/")[2]:
        raise ConfigurationError(
            f"the {scheme}:// URL is malformed: write / ? # @ and : in a user name or password "
            "as %2F %3F %23 %40 and %3A"
        )
    try:
        return _cluster(url) if scheme.endswith("+cluster") else _CLIENT.from_url(url)
    except ValueError as error:
        kind = type(error).__name__
    # Outside of the block above: its error repeats parts of the URL, and would be kept with ours.
    raise ConfigurationError(f"the {scheme}:// URL is malformed: {kind}")


def _cluster(url: str) -> ClusterAddress:
    scheme = url.partition("+")[0]
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]
    first, *_ = hosts.split(",")
    settings: dict[str, Any] = dict(
        _PARSER.parse_url(f"{scheme}://{login}{at}{first}?{parts.query}")
    )
    settings.pop("connection_class", None)
    for name in ("host", "port", "db"):
        settings.pop(name, None)
    if scheme == "rediss":
        settings["ssl"] = True
    return ClusterAddress(
        tuple((node.hostname or "", node.port or 6379) for node in nodes), settings
    )
