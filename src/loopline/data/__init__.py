"""Tables: reading, types and roles, digests, snapshots, cleaning, differences."""
