"""Scores with intervals: metrics, thresholds, calibration, importance, curves."""
