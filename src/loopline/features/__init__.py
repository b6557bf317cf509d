"""Fitted preprocessing as data, and the contract of what may come in."""
