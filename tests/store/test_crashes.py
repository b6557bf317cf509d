"""`kill -9` at random points, and many processes at once: what is listed is whole."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from loopline.store.artifacts import Store
from loopline.testing.store import writing

Start = Callable[..., subprocess.Popen[str]]

PUT_FOR_EVER = """
import itertools, os, sys
from loopline.store.artifacts import Store
store = Store.open(sys.argv[1])
print("started", flush=True)
last = None
for number in itertools.count():
    def write(folder):
        (folder / "deep").mkdir()
        for part in range(4):
            (folder / "deep" / f"{part}.bin").write_bytes(f"{sys.argv[2]}-{number}".encode() * 9999)
    inputs = {} if last is None else {"last": last}
    last = store.put("thing", write, inputs=inputs, meta={"n": number}).id
    print("put", flush=True)
    store.bind(f"key-{number}", last)
"""

COLLECT_FOR_EVER = """
import sys
from loopline.store.artifacts import Store
store = Store.open(sys.argv[1])
print("started", flush=True)
while True:
    store.collect(sys.argv[3:], grace_seconds=float(sys.argv[2]))
"""


def assert_all_whole(store: Store) -> None:
    """Everything listed verifies, and everything it was made from is there."""
    ids = set(store.ids())
    for artifact_id in ids:
        store.verify(artifact_id)
        assert set(store.get(artifact_id).inputs.values()) <= ids


def kill_at(child: subprocess.Popen[str], seconds: float, num_lines: int = 1) -> None:
    """Let the child print so many lines, then `kill -9` it after `seconds`."""
    assert child.stdout is not None
    for _ in range(num_lines):
        assert child.stdout.readline() in {"started\n", "put\n"}, child.communicate()[1]
    time.sleep(seconds)
    assert child.poll() is None, child.communicate()[1]
    child.kill()
    child.communicate()


def test_killed_writers_leave_whole_artifacts_only(tmp_path: Path, start: Start) -> None:
    """After 32 kills of a writer, what is listed verifies, and its drafts can be swept."""
    store = Store.open(tmp_path)
    rng = random.Random(7)
    num_drafts = 0
    for number in range(32):
        child = start(PUT_FOR_EVER, str(tmp_path), str(number))
        kill_at(child, rng.uniform(0, 0.02), num_lines=rng.randrange(1, 4))
        assert_all_whole(store)
        num_drafts = max(num_drafts, len(list((tmp_path / "tmp").iterdir())))
        for key in (tmp_path / "keys").rglob("key-*"):
            assert store.lookup(key.name) is not None
    assert len(store.ids()) > 16
    assert num_drafts > 8, "the kills never hit a write: the test shows nothing"
    time.sleep(0.05)
    roots = store.ids()
    assert store.collect(roots, grace_seconds=0).num_leftovers > 8
    drafts = [p.name for p in (tmp_path / "tmp").iterdir() if p.name.startswith("draft")]
    assert drafts == []
    assert store.ids() == roots


def test_killed_collectors_remove_nothing_reachable(
    tmp_path: Path, start: Start, no_sync: None
) -> None:
    """After 30 kills of a collector the roots and all they were made from are whole."""
    store = Store.open(tmp_path)
    first = store.put("thing", writing(a="first"))
    root = store.put("thing", writing(a="root"), inputs={"from": first.id})
    rng = random.Random(11)
    for number in range(30):
        loose = None
        for part in range(8):
            made = store.put(
                "loose",
                writing(a=f"{number} {part}", b="x", c="y"),
                inputs={"from": first.id} if loose is None else {"from": loose},
            )
            loose = made.id
            store.bind(f"key-{part}", loose)
        child = start(COLLECT_FOR_EVER, str(tmp_path), "0", root.id)
        kill_at(child, rng.uniform(0, 0.02))
        assert_all_whole(store)
        assert {first.id, root.id} <= set(store.ids())
    time.sleep(0.05)
    store.collect([root.id], grace_seconds=0)
    assert store.ids() == sorted([first.id, root.id])
    assert [p for p in (tmp_path / "tmp").iterdir() if p.is_dir()] == []
    assert list((tmp_path / "keys").rglob("key-*")) == []


USE_FOR_A_WHILE = """
import random, sys, time
from loopline.errors import NotFoundError
from loopline.store.artifacts import Store
rng = random.Random(int(sys.argv[2]))
store = Store.open(sys.argv[1])
end = time.monotonic() + 40
hits = again = 0
seen = set()
while time.monotonic() < end and not (hits >= 10 and again >= 1):
    number = rng.randrange(40)
    found = store.lookup(f"base-{number}")
    if found is None:
        found = store.put("base", lambda f: (f / "a").write_text(str(number)) and None).id
        store.bind(f"base-{number}", found)
        again += number in seen
    else:
        hits += 1
    seen.add(number)
    assert store.get(found).path("a").read_text() == str(number)
    def write(folder):
        time.sleep(rng.uniform(0, 0.01))
        (folder / "b").write_text(str(number))
    child = store.put("child", write, inputs={"base": found}, meta={"n": rng.randrange(10)})
    store.verify(child.id)
    store.verify(found)
    time.sleep(rng.choice([0, 0, 0, 0, 0, 0, 0, 1.0]))
print(hits, again)
"""


def test_collectors_beside_writers_take_nothing_that_was_just_found(
    tmp_path: Path, start: Start
) -> None:
    """Two collectors with a short grace never take what three writers found or made within it."""
    Store.open(tmp_path)
    collectors = [start(COLLECT_FOR_EVER, str(tmp_path), "1.2") for _ in range(2)]
    users = [start(USE_FOR_A_WHILE, str(tmp_path), str(n)) for n in range(3)]
    counts = [0, 0]
    for user in users:
        out, err = user.communicate(timeout=60)
        assert user.returncode == 0, err
        counts = [a + int(b) for a, b in zip(counts, out.split(), strict=True)]
    for collector in collectors:
        assert collector.poll() is None, collector.communicate()[1]
        collector.kill()
    assert_all_whole(Store.open(tmp_path))
    assert counts[0] >= 10, "nothing was ever found"
    assert counts[1] >= 1, "nothing was ever collected"


SAME = """
import sys
from loopline.store.artifacts import Store
store = Store.open(sys.argv[1])
for number in range(20):
    made = store.put("thing", lambda f: (f / "a").write_text(str(number)) and None)
    store.bind(f"key-{number}", made.id)
    assert made.path("a").read_text() == str(number)
"""


def test_eight_processes_put_the_same_artifacts(tmp_path: Path, start: Start) -> None:
    """Eight processes that open a new store and put the same things leave one of each."""
    children = [start(SAME, str(tmp_path / "new")) for _ in range(8)]
    for child in children:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    store = Store.open(tmp_path / "new")
    assert len(store.ids()) == 20
    assert_all_whole(store)
    assert list((tmp_path / "new" / "tmp").iterdir()) == []
