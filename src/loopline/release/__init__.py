"""Releases: one folder of data that predicts, says where it comes from, and runs no code."""
