"""Search: the best settings of each family within a budget, the same ones for the same seed."""
