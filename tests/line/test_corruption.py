"""Damage is named and never used, lost artifacts are made again, and releases run no code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.line.conftest import make_table
from tests.line.processes import outcome, write_project

import loopline
from loopline.cli.app import app
from loopline.cli.edge import guarded
from loopline.digest import file_digest
from loopline.errors import IntegrityError
from loopline.line.project import open_project
from loopline.line.verify import verify
from loopline.release.bundle import load_release
from loopline.splits.spec import TEST, TRAIN
from loopline.splits.split import Split
from loopline.store.manifest import MANIFEST_NAME, seal

MODELS = ["baseline", "linear", {"lightgbm": {"rounds": 5}}]


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose line has ended; copied by whoever damages it."""
    folder = write_project(tmp_path_factory.mktemp("finished"), models=MODELS)
    loopline.run(folder, progress=False)
    return folder


@pytest.fixture
def folder(finished_folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished project."""
    return Path(shutil.copytree(finished_folder, tmp_path / "project"))


def artifact_folders(folder: Path) -> list[Path]:
    """The folder of every artifact, in name order."""
    return sorted((folder / ".loopline" / "artifacts").glob("*/*/*"))


def one_of_each_kind(folder: Path) -> Iterator[Path]:
    """The first artifact of each kind, and of foldfits one of each family."""
    seen: set[str] = set()
    for place in artifact_folders(folder):
        meta = json.loads((place / MANIFEST_NAME).read_text())["meta"]
        what = f"{place.name.split('-')[0]} {meta.get('family', '')}"
        if what not in seen:
            seen.add(what)
            yield place


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_verify_names_every_flipped_byte(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One flipped bit in any file of any kind: exit code 4, artifact and file are named."""
    store = str(folder / ".loopline")
    assert guarded(app, ["verify", "latest", "--store", store]) == 0
    kinds = set()
    for place in one_of_each_kind(folder):
        for path in sorted(p for p in place.rglob("*") if p.is_file()):
            before = path.read_bytes()
            if not before:
                continue
            flip(path)
            capsys.readouterr()
            assert guarded(app, ["verify", "latest", "--store", store]) == 4, path
            told = capsys.readouterr().err
            assert place.name in told
            assert path.name in told
            path.write_bytes(before)
            kinds.add(place.name.split("-")[0])
    assert kinds == {p.name.split("-")[0] for p in artifact_folders(folder)}
    assert len(kinds) == 15


def test_damaged_release_does_not_predict(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`loopline predict` with a release that has one flipped bit ends with 4 and writes nothing."""
    new, out = tmp_path / "new.csv", tmp_path / "out.csv"
    make_table(20, seed=3).drop("bought").write_csv(new)
    release = next(p for p in artifact_folders(folder) if p.name.startswith("release-"))
    needed = [release / MANIFEST_NAME, release / "files" / "release.json"]
    needed += [p for p in (release / "files" / "model").rglob("*") if p.is_file()]
    for path in needed:
        before = path.read_bytes()
        flip(path)
        for which in (str(release), "latest"):
            arguments = ["predict", which, str(new), "-o", str(out)]
            arguments += ["--store", str(folder / ".loopline")]
            assert guarded(app, arguments) == 4, path
            assert not out.exists()
        path.write_bytes(before)
    assert "damaged" in capsys.readouterr().err
    assert guarded(app, arguments) == 0


def test_damaged_artifacts_are_made_again(folder: Path) -> None:
    """A line that meets damage in what it goes on from makes it again, with the same digests."""
    expected = outcome(loopline.run(folder, progress=False).summary)
    release = next(p for p in artifact_folders(folder) if p.name.startswith("release-"))
    for place in one_of_each_kind(folder):
        if place == release:
            continue
        for path in (place / MANIFEST_NAME, *sorted((place / "files").rglob("*.*"))[:1]):
            flip(path)
            shutil.rmtree(release)
            assert outcome(loopline.run(folder, progress=False).summary) == expected, path
            with open_project(folder / ".loopline") as project:
                verify(project, expected["release"])


def test_damaged_release_is_made_again(folder: Path) -> None:
    """A finished line whose release is damaged is not "found": the release is made again."""
    expected = outcome(loopline.run(folder, progress=False).summary)
    release = next(p for p in artifact_folders(folder) if p.name.startswith("release-"))
    for path in sorted(p for p in release.rglob("*") if p.is_file()):
        flip(path)
        assert outcome(loopline.run(folder, progress=False).summary) == expected
        with open_project(folder / ".loopline") as project:
            project.store.verify(expected["release"])


def test_lost_artifacts_are_made_again(folder: Path) -> None:
    """Whichever single artifact is deleted by hand, the line gives it back with equal digests."""
    expected = outcome(loopline.run(folder, progress=False).summary)
    names = [place.name for place in artifact_folders(folder)]
    for place in one_of_each_kind(folder):
        shutil.rmtree(place)
        assert outcome(loopline.run(folder, progress=False).summary) == expected
        assert [p.name for p in artifact_folders(folder)] == names, place


@pytest.mark.slow
def test_any_lost_artifact_is_made_again(folder: Path) -> None:
    """The same for every artifact, and for all of them but one."""
    expected = outcome(loopline.run(folder, progress=False).summary)
    names = [place.name for place in artifact_folders(folder)]
    for place in artifact_folders(folder):
        shutil.rmtree(place)
        assert outcome(loopline.run(folder, progress=False).summary) == expected
        assert [p.name for p in artifact_folders(folder)] == names, place


def reseal(place: Path, *, name: str | None = None) -> None:
    """Write a manifest that fits the files as they are now, as a forger would."""
    path = place / MANIFEST_NAME
    body = json.loads(path.read_text())
    del body["digest"]
    for entry in body["files"]:
        file = place / body["place"] / entry
        body["files"][entry] |= {"size": file.stat().st_size, "digest": file_digest(file)}
    if name is not None:
        body["id"] = name
    path.write_bytes(seal(body))


def move_row(split_files: Path) -> None:
    """Take one training row to the test side, in every fold."""
    path = split_files / "rows.parquet"
    table = pl.read_parquet(path)
    sides = table["side"].to_numpy().copy()
    sides[np.flatnonzero(sides == TRAIN)[0]] = TEST
    table.with_columns(pl.Series("side", sides)).write_parquet(path, compression="zstd")


def test_moved_row_is_found(folder: Path, tmp_path: Path) -> None:
    """A row moved in a stored split is found, even when every digest was rewritten to fit."""
    with open_project(folder / ".loopline") as project:
        split = project.store.get(project.store.ids("split")[0])
        forged_files = Path(shutil.copytree(split.path(), tmp_path / "forged"))
        move_row(forged_files)

        def write(to: Path) -> None:
            shutil.copytree(forged_files, to, dirs_exist_ok=True)

        forged = project.store.put("split", write, meta=split.meta, inputs=split.inputs)
        project.store.verify(forged.id)
        with pytest.raises(IntegrityError, match=r"row|digest"):
            verify(project, forged.id)
        assert Split.load(split.path()).num_rows == 300
    place = next(p for p in artifact_folders(folder) if p.name == split.id)
    move_row(place / "files")
    reseal(place)
    with (
        open_project(folder / ".loopline") as project,
        pytest.raises(IntegrityError, match="describes another artifact"),
    ):
        verify(project, "latest")


# --- a release is data ---------------------------------------------------------------------------

WATCH = """
import sys
sys.path_importer_cache  # the program itself is trusted; what follows is watched
import loopline, polars
from loopline.release.bundle import load_release
warm, folder, table, out, is_cold = *sys.argv[1:5], sys.argv[5] == "cold"
frame = polars.read_csv(table)
if not is_cold:
    load_release(warm).predict(frame)
    load_release(warm).predict_one(frame.to_dicts()[0])
ALLOWED = set(sys.argv[6].split(",")) | set(sys.stdlib_module_names)
TRUSTED = (sys.prefix, sys.base_prefix, loopline.__path__[0])
CODE = ("exec", "compile", "import", "ctypes.dlopen", "marshal.loads")
NEVER = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
         "os.fork", "os.forkpty", "socket.connect", "socket.bind", "socket.getaddrinfo")
seen = []
def refuse(event, args):
    wrong = event in NEVER
    if event in CODE and not is_cold:
        wrong = True
    elif event == "import" and str(args[0]).split(".")[0] not in ALLOWED:
        wrong = True
    elif event in ("exec", "compile"):
        name = args[0].co_filename if event == "exec" else str(args[1])
        wrong = folder in name or not (name.startswith(TRUSTED) or name.startswith("<"))
    if wrong:
        seen.append(f"{event} {args!r:.200}")
    elif event == "open" and isinstance(args[0], str) and folder in args[0] and args[1] != "r" \\
            and args[1] != "rb" and args[1] is not None:
        seen.append(f"{event} {args!r:.200}")
sys.addaudithook(refuse)
release = load_release(folder)
answer = release.predict(frame)
one = release.predict_one(frame.to_dicts()[0])
found = list(seen)
answer.write_csv(out)
if found:
    print("\\n".join(found))
    sys.exit(9)
print("clean", len(answer), one["prediction"])
"""
PACKAGES = {
    *("loopline", "polars", "_polars_runtime", "numpy", "safetensors", "blake3", "lightgbm"),
    *("scipy", "sklearn", "joblib", "threadpoolctl", "pandas", "pyarrow", "narwhals", "dateutil"),
    *("pytz", "six", "cffi", "_cffi_backend", "typing_extensions", "packaging", "dask", "cpuinfo"),
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each family the folders of two different releases, copied out of their stores."""
    folder = tmp_path_factory.mktemp("releases")
    found = {}
    for family, model in {"linear": "linear", "lightgbm": {"lightgbm": {"rounds": 5}}}.items():
        places = []
        for seed in (1, 2):
            result = loopline.fit(
                make_table(200, seed=seed), "bought", store=folder / f"{family}{seed}",
                models={"baseline": {}, **(model if isinstance(model, dict) else {model: {}})},
                progress=False, settings={"threads": 1, "split": {"folds": 2}},
            )  # fmt: skip
            assert result.summary["chosen"] == family
            source = result.release.artifact.path().parent
            places.append(Path(shutil.copytree(source, folder / f"copy-{family}{seed}")))
        found[family] = (places[0], places[1])
    return found


def watch(warm: Path, folder: Path, tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Predict with a release under an audit hook that hears of everything Python executes."""
    table = tmp_path / "table.csv"
    make_table(20, seed=3).drop("bought").write_csv(table)
    return subprocess.run(
        [sys.executable, "-c", WATCH, str(warm), str(folder), str(table),
         str(tmp_path / "out.csv"), how, ",".join(sorted(PACKAGES))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("how", ["cold", "warm"])
@pytest.mark.parametrize("family", ["linear", "lightgbm"])
def test_release_executes_no_code(
    releases: dict[str, tuple[Path, Path]], tmp_path: Path, family: str, how: str
) -> None:
    """Loading and predicting runs, imports and unpickles nothing that comes with the release.

    Cold: only known packages are imported, and no process, socket or unpickling happens. Warm,
    after another release of the family was used: nothing at all is compiled, imported or executed.
    """
    done = watch(*releases[family], tmp_path, how)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.startswith("clean 20 ")


class Gadget:
    """Unpickling this writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("family", ["linear", "lightgbm"])
def test_pickled_gadgets_are_refused(
    releases: dict[str, tuple[Path, Path]], tmp_path: Path, family: str
) -> None:
    """Pickle bytes in the place of any file of a release are refused, forged digests or not."""
    marker = tmp_path / "owned"
    gadget = pickle.dumps(Gadget(marker))
    pickle.loads(gadget).close()
    assert marker.exists()
    marker.unlink()
    rows = make_table(5, seed=3).drop("bought")
    original = releases[family][0]
    files = sorted(p.relative_to(original) for p in (original / "files").rglob("*") if p.is_file())
    for number, name in enumerate([Path(MANIFEST_NAME), *files]):
        folder = Path(shutil.copytree(original, tmp_path / f"{number}"))
        (folder / name).write_bytes(gadget)
        if name.name not in ("card.md", "measured.json"):
            with pytest.raises(IntegrityError, match="damaged"):
                load_release(folder).predict(rows)
            if name.name != MANIFEST_NAME:
                reseal(folder)
                with pytest.raises(IntegrityError):
                    load_release(folder).predict(rows)
        assert not marker.exists()
