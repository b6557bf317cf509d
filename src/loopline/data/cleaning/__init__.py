"""The parts of cleaning: findings, policy, repairs, and one module for each family of checks."""
