"""Exports: a release in the forms that other servers and other languages read."""
