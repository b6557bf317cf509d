"""The networks that ship with Loopline, and how the engine trains them.

Torch stands at the top of these modules, as in `engine`; the families in `models/` import them
when they fit, load or predict, never before.
"""
