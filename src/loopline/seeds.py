"""One root seed, named child seeds: the same name always gives the same stream.

A child seed depends on the root and on its name only, never on the order in which seeds are asked
for, so adding a candidate or a fold does not disturb the others. Imports the standard library only.
"""

from __future__ import annotations

import hashlib


def child_seed(root: int, *names: str | int) -> int:
    """Derive the seed of one named part of a run from the run's root seed.

    Args:
        root: the run's root seed, 0 or larger.
        names: the path of the part, for example ``"fit", "lightgbm", 3``.

    Returns:
        An integer in [0, 2**31), accepted by every library that we seed.

    >>> child_seed(0, "split") == child_seed(0, "split")
    True
    >>> child_seed(0, "split") == child_seed(1, "split")
    False
    """
    text = "\x1f".join([str(int(root)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
