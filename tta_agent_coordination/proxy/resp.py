"""Just enough of RESP 2 and 3 to cut a stream into frames."""

_BULK = b"$=!"
_SEQUENCE = b"*~>"
_MAP = b"%"
_ATTRIBUTE = b"|"  # a map, and the reply it belongs to behind it


class IncompleteFrameError(Exception):
    """The frame does not end within the bytes at hand."""


def frame_end(data: bytes | bytearray, start: int = 0) -> int:
    """Return the index behind the frame that begins at ``start``."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        raise IncompleteFrameError
    kind, end = data[start], line_end + 2
    if kind in _BULK:
        size = int(data[start + 1 : line_end])
        end += size + 2 if size >= 0 else 0
        if end > len(data):
            raise IncompleteFrameError
        return end
    for _ in range(_parts(kind, data[start + 1 : line_end])):
        end = frame_end(data, end)
    return end


def _parts(kind: int, count: bytes | bytearray) -> int:
    if kind in _SEQUENCE:
        return int(count)
    if kind in _MAP:
        return 2 * int(count)
    if kind in _ATTRIBUTE:
        return 2 * int(count) + 1
    return 0


def take_frame(data: bytearray) -> bytes | None:
    """Remove the first frame from ``data`` and return it; None if it is not all there."""
    try:
        end = frame_end(data)
    except IncompleteFrameError:
        return None
    frame = bytes(data[:end])
    del data[:end]
    return frame


def words(command: bytes) -> tuple[bytes, ...]:
    """Return the words of a command, in array or inline form."""
    if not command.startswith(b"*"):
        return tuple(command.split())
    found: list[bytes] = []
    at = command.index(b"\r\n") + 2
    while at < len(command):
        begin, at = command.index(b"\r\n", at) + 2, frame_end(command, at)
        found.append(command[begin : at - 2])
    return tuple(found)
