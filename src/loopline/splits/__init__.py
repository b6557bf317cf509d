"""Splits as stored values: splitters, certificate, views, the vault and the leak audit."""
