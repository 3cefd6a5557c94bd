"""The demo: processes that share real work over Redis, lose one of them, and lose nothing else.

::

    planner ──REQUEST──> [analyst] ──> analyst:1 … analyst:N ──EVENT──> [reporter] ──> reporter
       ^                    └── not Python ──> dead letters    │
       └──────────────── [planner] <────────RESPONSE───────────┘

`run` is the way in; `stage` is what the parent process does, `child` what the others begin with:
an `Agent` served by an `AgentWorker`, and known to the registry, which finds the killed one dead.
"""
