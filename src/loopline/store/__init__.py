"""Artifacts under names that prove their content, and the ledger of what happened."""
