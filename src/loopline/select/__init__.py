"""Comparing candidates and choosing the simplest that is not measurably worse."""
