"""What an error of Redis or of the way to it means for the call that met it."""

from __future__ import annotations

import re
import ssl
from enum import Enum

from redis import exceptions as redis_errors

from tta_agent_coordination.errors import (
    ConfigurationError,
    CoordinationError,
    CoordinatorAccessError,
    CoordinatorUnavailableError,
)


class UnknownPrimaryError(redis_errors.RedisError):
    """Sentinels know no primary of the name that was given."""


class Fault(Enum):
    """What the gate does next."""

    LOST = "lost"
    """The connection failed, the reply with it: repeat on a new one."""
    NOT_NOW = "not now"
    """The server is there but cannot serve yet: repeat after a while."""
    UNKNOWN_SCRIPT = "unknown script"
    """The server has forgotten its scripts: load them and repeat."""
    REDIRECTED = "redirected"
    """Another node of the cluster owns the key by now."""
    REFUSED = "refused"
    """The credentials or permissions do not allow it: repeating cannot help."""
    UNTRUSTED = "untrusted"
    """One side does not accept the certificate of the other: repeating cannot help."""
    MISNAMED = "misnamed"
    """Sentinels do not know the name of the primary."""
    FULL = "full"
    """The server is out of memory and evicts nothing."""
    FAILED = "failed"
    """An error in the command itself, or in the data it met."""


# By the first word of the reply: redis-py has no class for some, and within scripts for none.
_BY_CODE = {
    "ASK": Fault.NOT_NOW,
    "BUSY": Fault.NOT_NOW,
    "CLUSTERDOWN": Fault.NOT_NOW,
    "LOADING": Fault.NOT_NOW,
    "MASTERDOWN": Fault.NOT_NOW,
    "MISCONF": Fault.NOT_NOW,
    "MOVED": Fault.REDIRECTED,
    "NOAUTH": Fault.REFUSED,
    "NOPERM": Fault.REFUSED,
    "NOREPLICAS": Fault.NOT_NOW,
    "NOSCRIPT": Fault.UNKNOWN_SCRIPT,
    "OOM": Fault.FULL,
    "READONLY": Fault.NOT_NOW,
    "TRYAGAIN": Fault.NOT_NOW,
    "UNBLOCKED": Fault.NOT_NOW,
    "UNKILLABLE": Fault.NOT_NOW,
    # It has no code: a primary was demoted between what is sent and the WAIT for its replicas.
    "WAIT cannot be used with replica": Fault.NOT_NOW,
    "WRONGPASS": Fault.REFUSED,
}
_BY_CLASS: tuple[tuple[type[Exception], Fault], ...] = (
    (redis_errors.NoScriptError, Fault.UNKNOWN_SCRIPT),
    (UnknownPrimaryError, Fault.MISNAMED),
    (redis_errors.MovedError, Fault.REDIRECTED),
    # The slot is on its way to another node: over as soon as it has arrived there.
    (redis_errors.AskError, Fault.NOT_NOW),
    (redis_errors.ReadOnlyError, Fault.NOT_NOW),
    (redis_errors.TryAgainError, Fault.NOT_NOW),
    (redis_errors.ClusterDownError, Fault.NOT_NOW),
    (redis_errors.MasterDownError, Fault.NOT_NOW),
    (redis_errors.BusyLoadingError, Fault.NOT_NOW),
    (redis_errors.OutOfMemoryError, Fault.FULL),
    (redis_errors.NoPermissionError, Fault.REFUSED),
    (redis_errors.AuthenticationError, Fault.REFUSED),
    (redis_errors.AuthorizationError, Fault.REFUSED),
    (redis_errors.ConnectionError, Fault.LOST),
    (redis_errors.TimeoutError, Fault.LOST),
    (redis_errors.RedisClusterException, Fault.LOST),
    (OSError, Fault.LOST),
)

_CERTIFICATE_ALERT = re.compile(r"ALERT_(HANDSHAKE_FAILURE|UNKNOWN_CA|\w*CERTIFICATE)")
"""What the server says of ours, as OpenSSL names it."""

_NO_SUCH_DATABASE = re.compile(r"^(ERR )?(DB index is out of range|invalid DB index)")
"""What a server says to the SELECT of a new connection; it has no code."""


def fault_of(error: Exception) -> Fault:
    """Return what `error` means."""
    if _is_about_certificates(error):
        return Fault.UNTRUSTED
    for kind, fault in _BY_CLASS:
        if isinstance(error, kind):
            return fault
    text = str(error)
    for code, fault in _BY_CODE.items():
        # Redis 6.2 wraps the error that a script met: "ERR Error running script … -READONLY …".
        if text.startswith(code) or f"-{code} " in text or f": {code} " in text:
            return fault
    return Fault.FAILED


def _is_about_certificates(error: BaseException | None) -> bool:
    """Whether TLS failed at a certificate: redis-py makes a lost connection of that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if isinstance(error, ssl.SSLError) and _CERTIFICATE_ALERT.search(error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False


def translate(error: Exception, fault: Fault) -> CoordinationError:
    """Return the error of our tree for `error`; ``raise … from`` keeps the cause."""
    if fault is Fault.REFUSED:
        return CoordinatorAccessError(
            f"Redis refuses the call: {error}; check the user name, the password and the "
            "permissions of that user"
        )
    if fault is Fault.UNTRUSTED:
        return CoordinatorAccessError(
            f"the TLS certificates are not accepted: {error}; check the certificate authority "
            "(ssl_ca_certs), the host name in the URL, the dates of the certificates, and whether "
            "the server wants one of yours (ssl_certfile, ssl_keyfile)"
        )
    if fault is Fault.MISNAMED:
        return ConfigurationError(str(error))
    if fault is Fault.FULL:
        return CoordinatorUnavailableError(
            f"Redis is out of memory and stores nothing more: {error}; raise maxmemory, or let "
            "consumers work off what is there"
        )
    if fault is Fault.REDIRECTED:
        return ConfigurationError(
            f"the server is a node of a cluster ({error}): give a redis.cluster.RedisCluster "
            "client or a redis+cluster:// URL"
        )
    return _failure(error)


def _failure(error: Exception) -> CoordinationError:
    if isinstance(error, redis_errors.InvalidResponse):
        return CoordinationError(
            f"what answers does not speak the protocol of Redis: {error}; check the host and the "
            "port: if that port speaks TLS the URL begins with rediss://, and else with redis://"
        )
    if _NO_SUCH_DATABASE.search(str(error)):
        return ConfigurationError(
            f"Redis has no database of that number: {error}; correct the number at the end of the "
            "URL, or raise the server's setting databases"
        )
    return CoordinationError(f"Redis answered with an error: {error}")
