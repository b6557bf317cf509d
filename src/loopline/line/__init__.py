"""The line itself: settings, stages, runner, and the Python face."""
