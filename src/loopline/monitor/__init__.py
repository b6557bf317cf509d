"""Watching: windows of rows against a reference, alarms that keep a budget, where they go."""
