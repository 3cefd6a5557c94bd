"""Addresses of servers as URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
import redis.connection

from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.cluster import ClusterAddress
from tta_agent_coordination.transport.sentinel import DEFAULT_SENTINEL_PORT, SentinelAddress

FORMS = {
    "redis": "redis://[user:password@]host[:port][/database]",
    "rediss": "rediss://[user:password@]host[:port][/database]",
    "unix": "unix://[user:password@]/path[?db=database]",
    "redis+sentinel": "redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database]",
    "rediss+sentinel":
        "rediss+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database]",
    "redis+cluster": "redis+cluster://[user:password@]host[:port][,host[:port]…]",
    "rediss+cluster": "rediss+cluster://[user:password@]host[:port][,host[:port]…]",
}  # fmt: skip
"""What a URL of each scheme looks like; ``rediss`` is with TLS."""
SCHEMES = tuple(FORMS)

DEFAULT_PORT = 6379
"""Where servers listen, unless their address says otherwise."""

_OF_SENTINELS = "sentinel_"
_SHARED_WITH_SENTINELS = ("ssl", "socket_", "client_name", "connection_class")

_SCHEME = re.compile(r"[a-z][a-z0-9+]{0,30}")
# redis-py's own types are not complete.
_CLIENT = cast("Any", redis.Redis)
_PARSER = cast("Any", redis.connection)


class _MalformedError(ValueError):
    """What is wrong with a URL; never its text, any part of which may be a password's."""


def target_of(url: str) -> redis.Redis | ClusterAddress | SentinelAddress:
    """Return what `url` points to, without connecting.

    Args:
        url: Of one of the `FORMS`. What follows ``?`` are options of redis-py's connections, such
            as ``ssl_ca_certs``; with sentinels also ``sentinel_username`` and
            ``sentinel_password``.

    Raises:
        TypeError: It is no text.
        ConfigurationError: It is none of these. The text never shows a password.
    """
    # Nothing of the URL is shown but its scheme: anything else may be a password.
    if not isinstance(cast("object", url), str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in FORMS:
        shown = f", not {scheme!r}" if separator and _SCHEME.fullmatch(scheme) else ""
        raise ConfigurationError(
            f"the URL must begin with one of {', '.join(f'{known}://' for known in SCHEMES)}{shown}"
            + ("" if separator else "; a host alone is redis://host:port")
        )
    try:
        return _read(scheme, url)
    except ValueError as error:
        why = str(error) if isinstance(error, _MalformedError) else "it cannot be read"
    # Outside of the block above: its error repeats parts of the URL, and would be kept with ours.
    raise ConfigurationError(
        f"the {scheme}:// URL is malformed: {why}; expected {FORMS[scheme]} (in a user name or "
        "password, the characters / ? # @ : are written as %2F %3F %23 %40 %3A)"
    )


def _read(scheme: str, url: str) -> redis.Redis | ClusterAddress | SentinelAddress:
    parts = urlsplit(url)
    kind, _, service = scheme.partition("+")
    if kind == "unix":
        if not parts.path.strip("/"):
            raise _MalformedError("the path of the socket is missing")
        _check_options(_options(kind, parts, "localhost"), parts.query)
        return _CLIENT.from_url(url)
    if "#" in url:
        raise _MalformedError("it has a #, so a password seems to end too early")
    if "@" in parts.path:
        raise _MalformedError("it has an @ after a /, so a password seems to end too early")
    hosts = _hosts(parts, DEFAULT_SENTINEL_PORT if service == "sentinel" else DEFAULT_PORT)
    options = _options(kind, parts, "localhost")
    if service == "sentinel":
        return _sentinels(parts, hosts, options)
    _check_options(options, parts.query)
    if service == "cluster":
        return _cluster(kind, parts, hosts, options)
    if len(hosts) > 1:
        raise _MalformedError(f"several hosts are given; that is {kind}+cluster:// or +sentinel://")
    _database(parts.path[1:])
    return _CLIENT.from_url(url)


def _cluster(
    kind: str, parts: SplitResult, hosts: Sequence[tuple[str, int]], options: dict[str, Any]
) -> ClusterAddress:
    if parts.path.strip("/") not in ("", "0"):
        raise _MalformedError("a cluster has no databases, and no name")
    options.pop("connection_class", None)
    options.pop("db", None)
    if kind == "rediss":
        options["ssl"] = True
    return ClusterAddress(tuple(hosts), options)


def _sentinels(
    parts: SplitResult, hosts: Sequence[tuple[str, int]], options: dict[str, Any]
) -> SentinelAddress:
    name, _, database = parts.path[1:].partition("/")
    if not name:
        raise _MalformedError("the name of the primary, which the sentinels know, is missing")
    theirs = {
        option: options[option]
        for option in options
        if option.startswith(_SHARED_WITH_SENTINELS)
    }  # fmt: skip
    for option in [option for option in options if option.startswith(_OF_SENTINELS)]:
        theirs[option.removeprefix(_OF_SENTINELS)] = options.pop(option)
    _check_options(options, parts.query)
    _check_options(theirs, parts.query, _OF_SENTINELS)
    options["db"] = _database(database) or options.get("db", 0)
    return SentinelAddress(unquote(name), tuple(hosts), options, theirs)


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    """Return host and port of each server."""
    found: list[tuple[str, int]] = []
    for position, text in enumerate(parts.netloc.rpartition("@")[2].split(","), start=1):
        one = urlsplit(f"//{text}")
        if not one.hostname:
            raise _MalformedError(f"host {position} is missing")
        try:
            port = one.port or default_port
        except ValueError:
            raise _MalformedError(
                f"the port of host {position} is no number from 1 to 65535"
            ) from None
        found.append((one.hostname, port))
    return found


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise _MalformedError("the database, which follows the host or the name, is no number")
    return int(text or "0")


def _options(kind: str, parts: SplitResult, host: str) -> dict[str, Any]:
    """Return the login and what follows ``?`` as redis-py reads it."""
    login, at, _ = parts.netloc.rpartition("@")
    try:
        options = dict[str, Any](_PARSER.parse_url(f"{kind}://{login}{at}{host}?{parts.query}"))
    except ValueError:
        raise _MalformedError(_unreadable(parts.query)) from None
    return {name: value for name, value in options.items() if name not in ("host", "path")}


def _unreadable(query: str) -> str:
    """Say which option has a value that cannot be read; only names that are known are shown."""
    wrong = [name for name, value in parse_qsl(query) if not _is_readable(name, unquote(value))]
    return f"the value of {', '.join(wrong)}, after ?, is not allowed"


def _is_readable(name: str, value: str) -> bool:
    parsers = cast("dict[str, Callable[[str], object]]", _PARSER.URL_QUERY_ARGUMENT_PARSERS)
    try:
        parsers.get(name, str)(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_options(options: dict[str, Any], query: str, prefix: str = "") -> None:
    """Refuse options that no connection takes, now and not at the first call.

    Args:
        options: As a connection gets them.
        query: What follows ``?``.
        prefix: What their names have there in front.
    """
    settings = dict(options)
    kind = settings.pop("connection_class", redis.Connection)
    settings.pop("max_connections", None)
    try:
        kind(**settings)
    except (TypeError, redis.RedisError):
        raise _MalformedError(_refused(kind, settings, query, prefix)) from None


def _refused(kind: type[Any], settings: dict[str, Any], query: str, prefix: str) -> str:
    """Say which option a connection does not take; an unknown name may be part of a password."""
    known = {name for base in kind.__mro__ for name in signature(base).parameters}
    for position, name in enumerate(dict(parse_qsl(query)), start=1):
        option = name.removeprefix(prefix)
        if option not in settings:
            continue
        if option not in known:
            return f"option {position} after ? is unknown{_hint(kind, option, known, prefix)}"
        try:
            kind(**{option: settings[option]})
        except (TypeError, redis.RedisError):
            return f"the value of {name}, after ?, is not allowed"
    return "the options after ? do not fit each other"


def _hint(kind: type[Any], option: str, known: Iterable[str], prefix: str) -> str:
    """Say what may have been meant, if it is something that is known."""
    if option.startswith("ssl_") and not issubclass(kind, redis.SSLConnection):
        return ": it is one of TLS, for which the URL begins with rediss"
    return "".join(f": is it {prefix}{one}?" for one in get_close_matches(option, known, n=1))
