"""Every kind of place passes the public kit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loopline.store.places import Place
from loopline.testing.store import STORE_CHECKS


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
def test_place_keeps_the_promise(
    check: Callable[[Callable[[], Place]], None], reopen: Callable[[], Place]
) -> None:
    """A folder, memory and S3 keep each promise of the kit."""
    check(reopen)
