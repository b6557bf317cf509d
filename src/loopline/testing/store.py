"""Conformance kit of stores: what every `Place` must keep, whoever wrote it.

A check takes a function that opens the same, at first empty, place again and again, as new
processes would:

>>> import tempfile
>>> from loopline.store.artifacts import open_place
>>> folder = tempfile.mkdtemp()
>>> check_round_trip(lambda: open_place(folder))

With pytest: ``@pytest.mark.parametrize("check", STORE_CHECKS)``. A check that fails raises
`AssertionError` with the promise that was broken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from loopline.digest import bytes_digest
from loopline.errors import (
    EnvironmentProblem,
    InputError,
    IntegrityError,
    LooplineError,
    NotFoundError,
)
from loopline.store.artifacts import Artifact, Store
from loopline.store.manifest import MANIFEST_NAME, Manifest, artifact_folder, seal
from loopline.store.places import Place

OpenPlace = Callable[[], Place]


def tick_seconds(place: Place) -> float:
    """How long to wait until the place's clock has surely moved on.

    Object stores keep whole seconds, file systems some milliseconds.
    """
    return 0.3 if place.now() % 1 or place.now() % 1 else 1.1


def writing(**files: str) -> Callable[[Path], None]:
    """A `write` for `Store.put`: each argument becomes the file ``<name>.txt``."""

    def write(folder: Path) -> None:
        for name, text in files.items():
            (folder / f"{name}.txt").write_text(text)

    return write


@contextmanager
def refuses(error: type[LooplineError], *words: str) -> Iterator[None]:
    """Assert that the block raises `error` with every one of `words` in its message."""
    said: str | None = None
    try:
        yield
    except error as found:
        said = str(found)
    assert said is not None, f"{error.__name__} was expected, and nothing was raised"
    missing = [word for word in words if word not in said]
    assert not missing, f"{said!r} does not say {missing[0]!r}"


def file_names(place: Place, artifact_id: str) -> dict[str, str]:
    """File name -> name in the place, of every file of an artifact and of its manifest."""
    folder = artifact_folder(artifact_id)
    data = place.read(f"{folder}/{MANIFEST_NAME}")
    assert data is not None, f"{artifact_id} has no manifest"
    manifest = Manifest.from_bytes(data, artifact_id)
    names = {name: f"{folder}/{manifest.place}/{name}" for name in manifest.files}
    return {MANIFEST_NAME: f"{folder}/{MANIFEST_NAME}", **names}


def flip_byte(place: Place, name: str, position: int) -> None:
    """Change one bit of one byte of a file of a place, as a bad disk would."""
    data = bytearray(place.read(name) or b"")
    data[position % len(data)] ^= 1
    place.write(name, bytes(data))


def check_round_trip(open_place: OpenPlace) -> None:
    """What is put can be read by another process: files, meta, lineage, sizes and digests."""

    def write(folder: Path) -> None:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "ünï.bin").write_bytes(bytes(range(256)) * 9)
        (folder / "empty").write_bytes(b"")
        (folder / MANIFEST_NAME).write_text("a file of this name is nothing special")

    source = Store.at(open_place()).put("source", writing(a="1"))
    made = Store.at(open_place()).put(
        "thing", write, meta={"rows": 3, "of": (1.5, None, "ß")}, inputs={"table": source.id}
    )
    found = Store.at(open_place(), create=False).get(made.id)
    assert found == made
    assert found.meta == {"rows": 3, "of": [1.5, None, "ß"]}
    assert found.inputs == {"table": source.id}
    assert sorted(found.files) == ["deep/er/ünï.bin", "empty", MANIFEST_NAME]
    content = bytes(range(256)) * 9
    entry = found.files["deep/er/ünï.bin"]
    assert (entry.size, entry.digest) == (len(content), bytes_digest(content))
    assert found.path("deep/er/ünï.bin").read_bytes() == content
    assert (found.path() / "deep" / "er" / "ünï.bin").read_bytes() == content
    assert (found.path("deep") / "er" / "ünï.bin").read_bytes() == content
    with refuses(NotFoundError, "no file 'other'", "empty"):
        found.path("other")
    Store.at(open_place()).verify(made.id)
    assert Store.at(open_place()).ids() == sorted([source.id, made.id])
    assert Store.at(open_place()).ids("thing") == [made.id]


def check_identity(open_place: OpenPlace) -> None:
    """Equal kind, meta, files and inputs give an equal id; a change of any of them another."""
    store = Store.at(open_place())
    source = store.put("source", writing(a="1"))
    made = store.put("thing", writing(a="1"), meta={"x": 1}, inputs={"i": source.id})
    again = store.put("thing", writing(a="1"), meta={"x": 1}, inputs={"i": source.id})
    assert again == made
    others = [
        store.put("other", writing(a="1"), meta={"x": 1}, inputs={"i": source.id}),
        store.put("thing", writing(a="2"), meta={"x": 1}, inputs={"i": source.id}),
        store.put("thing", writing(b="1"), meta={"x": 1}, inputs={"i": source.id}),
        store.put("thing", writing(a="1"), meta={"x": 2}, inputs={"i": source.id}),
        store.put("thing", writing(a="1"), meta={"x": 1}, inputs={"j": source.id}),
        store.put("thing", writing(a="1"), meta={"x": 1}),
        store.put("thing", writing(), meta={"x": 1}, inputs={"i": source.id}),
    ]
    assert len({made.id, *(other.id for other in others)}) == 8


def check_first_writer_wins(open_place: OpenPlace) -> None:
    """A content with an identity of its own is kept as it was written first."""
    store = Store.at(open_place())
    first = store.put("table", writing(part="one"), meta={"by": 1}, identity="abc")
    second = store.put("table", writing(other="two"), meta={"by": 2}, identity="abc")
    assert second == first
    assert second.path("part.txt").read_text() == "one"
    assert store.put("table", writing(part="one"), identity="abd").id != first.id
    assert store.put("sheet", writing(part="one"), identity="abc").id != first.id


def check_unhashed(open_place: OpenPlace) -> None:
    """An unhashed file takes no part in the id, and its bytes are checked all the same."""
    place = open_place()
    store = Store.at(place)
    first = store.put("fit", writing(model="m", seconds="1.5"), unhashed=["seconds.txt"])
    second = store.put("fit", writing(model="m", seconds="9.9"), unhashed=["seconds.txt"])
    assert second == first
    assert second.path("seconds.txt").read_text() == "1.5"
    assert not first.files["seconds.txt"].hashed
    with refuses(InputError, "'time.txt'", "not written"):
        store.put("fit", writing(model="m"), unhashed=["time.txt"])
    flip_byte(place, file_names(place, first.id)["seconds.txt"], 0)
    with refuses(IntegrityError, first.id, "seconds.txt"):
        Store.at(open_place()).verify(first.id)


def check_failed_write_leaves_nothing(open_place: OpenPlace) -> None:
    """A `write` that raises leaves no artifact and no draft, and its error comes through."""
    store = Store.at(open_place())

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyError("stopped")

    told = False
    try:
        store.put("thing", fail)
    except KeyError:
        told = True
    assert told, "the error of `write` was swallowed"
    assert store.ids() == []
    time.sleep(tick_seconds(open_place()))
    assert store.collect([], grace_seconds=0).num_leftovers == 0


def check_damage_is_found(open_place: OpenPlace) -> None:
    """One flipped bit in any file or in the manifest is told with the file's name."""
    place = open_place()
    made = Store.at(place).put("thing", writing(a="some text", b="more"), meta={"m": 1})
    for name, where in file_names(place, made.id).items():
        whole = place.read(where)
        assert whole is not None
        for position in range(0, len(whole), max(1, len(whole) // 4)):
            flip_byte(place, where, position)
            store = Store.at(open_place())
            with refuses(IntegrityError, made.id, name):
                store.verify(made.id)
            if name == MANIFEST_NAME:
                with refuses(IntegrityError, made.id, name):
                    store.get(made.id)
            place.write(where, whole)
    Store.at(open_place()).verify(made.id)


def check_damage_is_healed_by_making_it_again(open_place: OpenPlace) -> None:
    """Who makes a damaged artifact again gets, and leaves behind, a whole one."""
    place = open_place()
    made = Store.at(place).put("thing", writing(a="some text"))
    for where in file_names(place, made.id).values():
        flip_byte(place, where, 5)
        again = Store.at(open_place()).put("thing", writing(a="some text"))
        assert again.path("a.txt").read_text() == "some text"
        Store.at(open_place()).verify(made.id)


def check_keys(open_place: OpenPlace) -> None:
    """A key gives back the artifact that was bound to it last, and None for everything else."""
    place = open_place()
    store = Store.at(place)
    first, second = store.put("thing", writing(a="1")), store.put("thing", writing(a="2"))
    key = bytes_digest(b"stage")
    assert store.lookup(key) is None
    store.bind(key, first.id)
    assert Store.at(open_place()).lookup(key) == first.id
    store.bind(key, second.id)
    assert Store.at(open_place()).lookup(key) == second.id
    with refuses(NotFoundError, "not in the store"):
        store.bind(key, "thing-" + "0" * 64)
    for wrong in ("", "a", "../../x", "a/b", "a\x00b", "x" * 300):
        with refuses(InputError, "A key of the store"):
            store.lookup(wrong)
    for position in (0, 20, 90, -3):
        flip_byte(place, f"keys/{key[:2]}/{key}", position)
        assert store.lookup(key) is None
        flip_byte(place, f"keys/{key[:2]}/{key}", position)
    assert store.lookup(key) == second.id


def check_find(open_place: OpenPlace) -> None:
    """A unique prefix finds its artifact, with or without the kind; others are told apart."""
    store = Store.at(open_place())
    with refuses(NotFoundError, "'thing-00'", "empty"):
        store.find("thing-00")
    made = [store.put("thing", writing(a=str(number))).id for number in range(8)]
    other = store.put("release", writing(a="1")).id
    assert store.find(other) == store.find("release") == store.find(other[:14]) == other
    for artifact_id in made:
        digest = artifact_id.partition("-")[2]
        assert store.find(artifact_id[:20]) == store.find(digest[:14]) == artifact_id
    with refuses(NotFoundError, "8 artifacts", "more characters"):
        store.find("thing-")
    with refuses(NotFoundError, "these kinds: release, thing"):
        store.find("rleease-1")
    near = made[3][:12] + ("0" if made[3][12] != "0" else "1")
    with refuses(NotFoundError, f"Near: {made[3][:12]}"):
        store.find(near)
    with refuses(NotFoundError, "not in the store"):
        store.find("")
    for wrong in ("../../etc", "thing-../x", "THING-1", "thing-" + "g" * 64):
        with refuses(NotFoundError):
            store.find(wrong)
        with refuses(NotFoundError):
            store.get(wrong)


def check_refusals(open_place: OpenPlace) -> None:
    """What cannot be stored is refused with the rule, and nothing is left."""
    store = Store.at(open_place())
    for kind in ("", "Thing", "a-b", "../a", "x" * 33):
        with refuses(InputError, "kind of an artifact", repr(kind)):
            store.put(kind, writing(a="1"))
    with refuses(InputError, "plain data"):
        store.put("thing", writing(a="1"), meta={"x": float("nan")})
    with refuses(InputError, "plain data"):
        store.put("thing", writing(a="1"), meta={"x": {1, 2}})
    with refuses(NotFoundError, "input 'table'"):
        store.put("thing", writing(a="1"), inputs={"table": "snapshot-" + "0" * 64})
    with refuses(InputError, "'link'", "plain files"):
        store.put("thing", lambda folder: (folder / "link").symlink_to("/etc/passwd"))
    with refuses(InputError, "'back\\\\slash'", "plain UTF-8 names"):
        store.put("thing", lambda folder: (folder / "back\\slash").touch())
    assert store.ids() == []


def check_format(open_place: OpenPlace) -> None:
    """A store that a newer Loopline wrote is refused, and so is a damaged version."""
    place = open_place()
    with refuses(NotFoundError, "There is no store"):
        Store.at(place, create=False)
    Store.at(place)
    whole = place.read("format.json")
    assert whole is not None
    flip_byte(place, "format.json", len(whole) // 2)
    with refuses(IntegrityError, "format.json", "damaged"):
        Store.at(open_place())
    place.write("format.json", seal({"format": 2}))
    with refuses(EnvironmentProblem, "format 2", "newer Loopline"):
        Store.at(open_place())


def _chain(store: Store) -> list[Artifact]:
    """Four artifacts: base <- middle <- top, and a loose one; the base and the loose are bound."""
    base = store.put("thing", writing(a="base"))
    middle = store.put("thing", writing(a="middle"), inputs={"from": base.id})
    top = store.put("thing", writing(a="top"), inputs={"from": middle.id})
    loose = store.put("thing", writing(a="loose"), inputs={"from": base.id})
    store.bind("base", base.id)
    store.bind("loose", loose.id)
    return [base, middle, top, loose]


def check_collect(open_place: OpenPlace) -> None:
    """A collection keeps the roots and all that they were made from, and removes the rest."""
    store = Store.at(open_place())
    base, middle, top, loose = _chain(store)
    time.sleep(tick_seconds(open_place()))
    planned = store.collect([middle.id], grace_seconds=0, dry_run=True)
    assert planned.ids == tuple(sorted([top.id, loose.id]))
    assert (planned.num_bytes, planned.num_keys) == (len("top") + len("loose"), 1)
    assert len(store.ids()) == 4
    done = store.collect([middle.id, "thing-" + "0" * 64], grace_seconds=0)
    assert (done.ids, done.num_bytes, done.num_keys) == (planned.ids, planned.num_bytes, 1)
    later = Store.at(open_place())
    assert later.ids() == sorted([base.id, middle.id])
    assert (later.lookup("base"), later.lookup("loose")) == (base.id, None)
    later.verify(base.id)
    with refuses(NotFoundError):
        later.get(top.id)
    assert later.put("thing", writing(a="loose"), inputs={"from": base.id}) == loose
    with refuses(InputError, "full artifact id"):
        store.collect(["thing-1"], grace_seconds=0)
    with refuses(InputError, "grace_seconds"):
        store.collect([], grace_seconds=-1)


def check_grace(open_place: OpenPlace) -> None:
    """What was made or used within the grace stays, with all that it was made from."""
    tick = tick_seconds(open_place())
    base, middle, top, loose = _chain(Store.at(open_place()))
    for dry_run in (True, False):
        assert Store.at(open_place()).collect([], grace_seconds=60, dry_run=dry_run).ids == ()
    time.sleep(3 * tick)
    assert Store.at(open_place()).get(middle.id) == middle
    done = Store.at(open_place()).collect([], grace_seconds=2 * tick)
    assert done.ids == tuple(sorted([top.id, loose.id]))
    time.sleep(3 * tick)
    assert Store.at(open_place()).lookup("base") == base.id
    done = Store.at(open_place()).collect([], grace_seconds=2 * tick)
    assert done.ids == (middle.id,)


def check_unknown_lineage_stops_a_collection(open_place: OpenPlace) -> None:
    """When a manifest that must be kept is damaged its inputs are unknown: nothing is removed."""
    place = open_place()
    store = Store.at(place)
    base, _, top, _ = _chain(store)
    time.sleep(tick_seconds(open_place()))
    where = file_names(place, top.id)[MANIFEST_NAME]
    flip_byte(place, where, 30)
    with refuses(IntegrityError, top.id):
        store.collect([base.id, top.id], grace_seconds=0)
    assert len(store.ids()) == 4


def check_concurrent_writers(open_place: OpenPlace) -> None:
    """Eight writers of the same artifact give one artifact, whole and with one writer's bytes."""

    def write(number: int) -> str:
        store = Store.at(open_place())
        text = str(number)
        made = store.put(
            "thing", writing(model="same", time=text), unhashed=["time.txt"], meta={"n": 1}
        )
        store.bind("stage", made.id)
        return made.path("time.txt").read_text()

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(write, range(8)))
    store = Store.at(open_place())
    (artifact_id,) = store.ids()
    store.verify(artifact_id)
    assert store.lookup("stage") == artifact_id
    assert texts <= {str(number) for number in range(8)}
    assert store.get(artifact_id).path("time.txt").read_text() in texts


def check_manifest_cannot_lead_outside(open_place: OpenPlace) -> None:
    """A manifest with names that leave the artifact's folder is refused, even when well sealed."""
    place = open_place()
    store = Store.at(place)
    made = store.put("thing", writing(a="1"), identity="x")
    where = file_names(place, made.id)[MANIFEST_NAME]
    body = json.loads(place.read(where) or b"")
    entry = body["files"].pop("a.txt")
    del body["digest"]
    for name in ("../a", "/etc/passwd", "a/../../b", "", "a\\b", "a//b"):
        place.write(where, seal({**body, "files": {name: entry}}))
        with refuses(IntegrityError, "leads out", repr(name)):
            store.get(made.id)


STORE_CHECKS: tuple[Callable[[OpenPlace], None], ...] = (
    check_round_trip,
    check_identity,
    check_first_writer_wins,
    check_unhashed,
    check_failed_write_leaves_nothing,
    check_damage_is_found,
    check_damage_is_healed_by_making_it_again,
    check_keys,
    check_find,
    check_refusals,
    check_format,
    check_collect,
    check_grace,
    check_unknown_lineage_stops_a_collection,
    check_concurrent_writers,
    check_manifest_cannot_lead_outside,
)
