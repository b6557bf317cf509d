"""Public conformance kits, one per extension point; nothing in the package imports them."""
