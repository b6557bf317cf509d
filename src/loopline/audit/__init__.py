"""The audit: what would make a score untrue, found, priced and repaired before it is one."""
