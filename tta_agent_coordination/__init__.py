"""Reliable messages between agents over Redis, for synchronous Python."""

__version__ = "0.1.0"
