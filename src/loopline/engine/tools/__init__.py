"""Programs around the loop: processes started, advice, layouts compared, readings written.

The engine does not know them. They are told of a run through its events, or make runs of their own.
"""
