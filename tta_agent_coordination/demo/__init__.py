"""The demo: processes that share real work over Redis, lose one of them, and lose nothing else.

::

    planner ──REQUEST──> [analyst] ──> analyst-1 … analyst-N ──EVENT──> [reporter] ──> reporter
                            └── not Python ──> dead letters

`run` is the way in; `stage` is what the parent process does, `child` what the others begin with.
"""
