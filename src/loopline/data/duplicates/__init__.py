"""Rows that stand in a table more than once: exactly, nearly, in other words, as pictures."""
