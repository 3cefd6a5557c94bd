"""Measurements of the library against plain redis-py and against other queues."""
