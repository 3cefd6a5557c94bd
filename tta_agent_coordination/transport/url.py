"""Addresses of servers as URLs."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.connection

from tta_agent_coordination import checks
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.connections import ClusterAddress

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")


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
    scheme, separator, _ = checks.instance_of("url", url, str).partition("://")
    if not separator or scheme not in SCHEMES:
        # Without a scheme, what stands first may be a password.
        raise ConfigurationError(
            f"the URL must begin with one of {', '.join(f'{known}://' for known in SCHEMES)}"
            + (f", not {scheme[:40]!r}" if separator else "")
        )
    try:
        return _cluster(url) if scheme.endswith("+cluster") else _CLIENT.from_url(url)
    except ValueError as error:
        # The cause is left out: its text may repeat the URL with its password.
        raise ConfigurationError(
            f"the {scheme}:// URL is malformed: {type(error).__name__}"
        ) from None


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
