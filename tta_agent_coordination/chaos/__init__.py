"""Faults on purpose: processes, a server and a network that fail, and a check of what came of it.

`scenarios` names the faults, `run` plays them one after another, `produce`, `consume` and `serve`
are what the processes do meanwhile, `history` is what they write down, and `checker` and
`duplicates` say by it which promises were kept. ``tta-coordination chaos`` runs it all.
"""
