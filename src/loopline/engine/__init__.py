"""The neural training engine: one visible loop whose every number is a function of few counters.

It needs torch and the ground floor only, so it runs alone on a GPU server.
"""
