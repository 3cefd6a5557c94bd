"""The way to Redis: the one package that imports ``redis``.

Read upwards: `deadline` bounds an operation in time, `connections` opens connections that keep
to it, `faults` says what an error means, `scripts` are the Lua files, and `gate` is what every
command passes through.
"""
