"""Exports: whole or absent, proved, pinned, without secrets and code."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.release.conftest import Two, wide_table

import loopline
from loopline.errors import EnvironmentProblem, InputError, IntegrityError
from loopline.line.project import Project
from loopline.models.base import FittedModel
from loopline.models.blend import Blend
from loopline.models.portable import PortableModel
from loopline.models.portable_blend import Combiner
from loopline.release.bundle import Release
from loopline.release.exports import folder as folder_module
from loopline.release.exports.forms import FORM_NAMES, export
from loopline.release.exports.onnx_columns import add_columns
from loopline.release.exports.onnx_graph import Graph
from loopline.release.exports.onnx_models import Numbers, add_estimator, largest_codes
from loopline.release.exports.rows import proof_rows
from loopline.release.through import WAY, over_http
from loopline.runtime import load, pyfunc
from loopline.runtime.folder import write_folder


@pytest.fixture
def release(project: Project, made: Two) -> Release:
    """The LightGBM release."""
    return project.release(made.trees)


def test_forms_are_known_by_name(release: Release, tmp_path: Path) -> None:
    """A slip of the pen is told with the nearest form."""
    assert FORM_NAMES == ("folder", "onnx", "docker", "kserve", "triton", "mlflow")
    with pytest.raises(InputError, match="Did you mean `docker`"):
        export(release, "dockr", tmp_path / "x")


def test_a_folder_that_exists_is_left_alone(release: Release, tmp_path: Path) -> None:
    """Even an empty one, and a link that leads nowhere."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "link"):
        with pytest.raises(InputError, match=r"exists. Name a folder that is not there yet"):
            export(release, "folder", tmp_path / name)
    assert not list((tmp_path / "empty").iterdir())


def test_a_setting_without_effect_is_refused(release: Release, tmp_path: Path) -> None:
    """`repaired` means nothing to a form that makes the repairs itself."""
    with pytest.raises(InputError, match="`--repaired` has no effect on `--to folder`"):
        export(release, "folder", tmp_path / "x", repaired=True)


def test_a_full_disk_leaves_nothing(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to do, and neither the folder nor a draft of it is there."""

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_module, "write_folder", full)
    with pytest.raises(EnvironmentProblem, match=r"Cannot export to .*: the disk is full"):
        export(release, "folder", tmp_path / "x")
    assert os.listdir(tmp_path) == ["store"]


def test_a_small_disk_leaves_nothing(release: Release, small_disk: Callable[[str], Path]) -> None:
    """A disk that really is full: 64 kB of room."""
    disk = small_disk("size=64k")
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        export(release, "folder", disk / "x")
    assert os.listdir(disk) == []


def test_a_failed_proof_leaves_nothing(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose model answers otherwise does not get its name."""
    facts = folder_module.runtime_facts
    monkeypatch.setattr(
        folder_module, "runtime_facts", lambda release: {**facts(release), "threshold": 0.999}
    )
    with pytest.raises(IntegrityError, match="does not answer as in training, so it is not exp"):
        export(release, "folder", tmp_path / "x")
    assert os.listdir(tmp_path) == ["store"]


def test_a_kill_leaves_no_half_written_folder(made: Two, tmp_path: Path) -> None:
    """Killed at any moment, the name is there with everything in it, or not at all."""
    code = (
        "import sys; from loopline.line.project import open_project\n"
        "from loopline.release.exports.forms import export\n"
        "with open_project(sys.argv[1], create=False) as project:\n"
        "    release = project.release(sys.argv[2])\n"
        "    release.model\n"
        "    print('ready', flush=True)\n"
        "    export(release, 'folder', sys.argv[3], store=project.store)\n"
    )
    for number, delay in enumerate((0.0, 0.1, 0.4)):
        target = tmp_path / f"model{number}"
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(made.store), made.trees, str(target)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if target.exists():
            load(target)
    done = export(loopline.open_project(made.store).release(made.trees), "folder", tmp_path / "m")
    assert done.folder.is_dir()


def test_a_copied_release_is_proved_on_made_up_rows(release: Release, tmp_path: Path) -> None:
    """Without the store that keeps its rows the export says so."""
    copied = loopline.load_release(release.save(tmp_path / "copy"))
    done = export(copied, "folder", tmp_path / "x")
    assert "the rows kept at training were not at hand" in done.remarks[0]
    assert "kept rows and" not in done.remarks[0]


def test_a_time_zone_is_refused_by_name(
    project: Project, made: Two, release: Release, tmp_path: Path
) -> None:
    """The runtime does not know zones; the message names the column and another form."""
    column = release.facts["contract"]["columns"][3]
    column["kind"], column["zone"] = "datetime", "Europe/Berlin"
    with pytest.raises(InputError, match=f"{column['name']!r} has one. Export `--to docker`"):
        export(release, "folder", tmp_path / "x")


def test_a_network_is_refused_by_name(release: Release, tmp_path: Path) -> None:
    """A family without a portable form names the form that runs it."""
    release.model.portable = lambda: FittedModel.portable(release.model)
    with pytest.raises(InputError, match=r"family lightgbm needs the whole of Loopline.*docker"):
        export(release, "folder", tmp_path / "x")


@pytest.mark.parametrize(
    "combiner",
    [Combiner("mean", (0.25, 0.0, 0.75)), Combiner("linear", (0.6, 0.3, 0.4), (0.1, -0.1))],
    ids=["mean", "linear"],
)
def test_a_blend_is_exported_with_its_members(
    project: Project, made: Two, tmp_path: Path, combiner: Combiner
) -> None:
    """Members side by side, several models of one, weights of 0 left out: the blend's answers."""
    release, other = project.release(made.linear), project.release(made.trees)
    members = [[release.model], [release.model], [other.model, release.model]]
    blend = Blend("binary", members, combiner, ["a", "b", "c"])
    portable = blend.portable()
    assert len(portable.estimator.data["members"]) == 3 - combiner.weights.count(0.0)
    assert portable.estimator.packages == ("lightgbm",)
    tmp_path.joinpath("x").mkdir()
    write_folder(tmp_path / "x", folder_module.runtime_facts(release), portable)
    runtime = load(tmp_path / "x")
    rows = proof_rows(release, None, 40).rows
    checked = [release.contract.check_row(row) for row in rows]
    expected = np.array([blend.predict_row(row) for row in checked])
    assert np.allclose(runtime.probabilities(rows), expected, rtol=0, atol=1e-12)
    assert np.allclose(by_onnx(portable, checked), expected, rtol=0, atol=1e-12)


def by_onnx(model: PortableModel, rows: list[Any]) -> np.ndarray:
    """Probabilities of checked rows in onnxruntime; each raw column is one input."""
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = Graph()
    inputs, parts = add_columns(graph, model.columns, model.readings, ())
    matrix = Numbers(graph.add("Concat", *parts, axis=1), largest_codes(model))
    graph.output("p", "double", add_estimator(graph, model.estimator, matrix), 2)
    made = onnxruntime.InferenceSession(graph.model("g", {}).SerializeToString())
    given = {each.name: each.tensor([row[each.name] for row in rows]) for each in inputs}
    return np.asarray(made.run(None, given)[0])


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".npz", ".onnx", ".safetensors")
    }


@pytest.fixture(scope="module")
def docker(made: Two, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker export."""
    folder = tmp_path_factory.mktemp("docker") / "image"
    with loopline.open_project(made.store) as opened:
        done = export(opened.release(made.trees), "docker", folder, store=opened.store)
    assert "240 kept rows were answered as in training" in done.remarks[0]
    return folder


def test_the_image_is_pinned_and_has_no_rights(docker: Path) -> None:
    """Python and every package have the versions of the release's lock; the user is not root."""
    text = (docker / "Dockerfile").read_text()
    lock = loopline.load_release(docker / "release").facts["environment"]
    assert f"FROM python:{lock['python']}-slim" in text
    assert "\nUSER 10001\n" in text
    assert text.index("USER") > text.index("pip install")
    assert "HEALTHCHECK" in text
    assert "/v2/health/ready" in text
    assert '"loopline", "serve", "/app/release"' in text
    assert (docker / "requirements.txt").read_text() == f"loopline=={lock['loopline']}\n"
    pinned = (docker / "constraints.txt").read_text().splitlines()
    assert f"lightgbm=={lock['lightgbm']}" in pinned
    assert all("==" in line and "+" not in line for line in pinned)
    web = f"pydantic-core=={metadata.version('pydantic-core')}"  # needed by what we need
    assert web in pinned


def test_the_image_has_the_library_that_lightgbm_wants(
    docker: Path, made: Two, tmp_path: Path
) -> None:
    """Python's slim image lacks libgomp, without which LightGBM does not load; others need none."""
    assert "install -y --no-install-recommends libgomp1 &&" in (docker / "Dockerfile").read_text()
    with loopline.open_project(made.store) as opened:
        export(opened.release(made.linear), "docker", tmp_path / "x", store=opened.store)
    assert "apt-get" not in (tmp_path / "x" / "Dockerfile").read_text()


def test_the_image_holds_no_secret_and_no_row(
    made: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in the environment of whoever exports is not written, nor is any training row."""
    monkeypatch.setenv("LOOPLINE_SERVE_TOKEN", "token-of-mine-0123456789")
    with loopline.open_project(made.store) as opened:
        done = export(opened.release(made.trees), "kserve", tmp_path / "x", store=opened.store)
    texts = files_of(done.folder)
    assert not [name for name, text in texts.items() if "token-of-mine" in text]
    assert not [name for name in texts if "replay" in name]
    numbers = [f"{value!r}" for value in wide_table()["x"].head(20).to_list()]
    told = {name: text for name, text in texts.items() if not name.endswith("model.txt")}
    assert not [name for name, text in told.items() for number in numbers if number in text]


def test_files_of_exports_can_be_read_by_others(docker: Path) -> None:
    """The image's user reads what root copied."""
    for path in docker.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o044 == 0o044, path


def test_the_images_command_serves_the_kept_rows(
    docker: Path, project: Project, made: Two, tmp_path: Path
) -> None:
    """The Dockerfile's own command, on loopback, answers the kept rows as in training."""
    line = (docker / "Dockerfile").read_text().partition("\nCMD ")[2]
    command = json.loads(line)
    assert command[:3] == ["loopline", "serve", "/app/release"]
    places = {"/app/release": str(docker / "release"), "0.0.0.0": "127.0.0.1", "8000": "0"}
    arguments = [places.get(word, word) for word in command[1:]]
    token = "0123456789abcdef0123456789abcdef"
    child = subprocess.Popen(
        [sys.executable, "-m", "loopline", *arguments, "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "LOOPLINE_SERVE_TOKEN": token},
        cwd=tmp_path,
    )
    try:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        move = project.promote(made.trees, through=f"{url}/predict", token=token)
    finally:
        child.terminate()
        child.communicate()
    assert move.proof["largest"][WAY] == 0.0


def test_the_release_in_the_image_is_whole(docker: Path) -> None:
    """It loads from the folder alone, every digest checked."""
    release = loopline.load_release(docker / "release")
    assert release.predict(wide_table().drop("bought").head(3)).height == 3


def test_kserve_runs_the_image_without_rights(made: Two, tmp_path: Path) -> None:
    """The service names the image, its probe, its limits and a secret for the token."""
    with loopline.open_project(made.store) as opened:
        export(opened.release(made.linear), "kserve", tmp_path / "x", store=opened.store)
    service = yaml.safe_load((tmp_path / "x/inference-service.yaml").read_text())
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == f"churn:{made.linear.removeprefix('release-')[:12]}"
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "churn-token"
    assert service["metadata"]["annotations"]["loopline.release"] == made.linear


def test_triton_gets_a_repository(project: Project, made: Two, tmp_path: Path) -> None:
    """Each input and output of the ONNX file stands in the configuration with its type."""
    pytest.importorskip("onnxruntime")
    release = project.release(made.trees)
    done = export(release, "triton", tmp_path / "x", store=project.store, repaired=True)
    assert done.files == ("churn/1/model.onnx", "churn/config.pbtxt")
    text = (tmp_path / "x/churn/config.pbtxt").read_text()
    assert '{ name: "x" data_type: TYPE_FP64 dims: [ -1, 1 ] }' in text
    assert '{ name: "city" data_type: TYPE_STRING dims: [ -1, 1 ] }' in text
    assert '{ name: "day" data_type: TYPE_INT64 dims: [ -1, 1 ] }' in text
    assert '{ name: "probabilities" data_type: TYPE_FP64 dims: [ -1, 2 ] }' in text
    assert "makes these repairs before" in done.remarks[1]


@pytest.fixture(scope="module")
def mlflow_model(made: Two, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow export."""
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    with loopline.open_project(made.store) as opened:
        export(opened.release(made.trees), "mlflow", folder, store=opened.store)
    return folder


def test_mlflow_reads_data_not_code(mlflow_model: Path) -> None:
    """The flavour names our loader and a folder of data: no pickle, no Python file."""
    model = yaml.safe_load((mlflow_model / "MLmodel").read_text())
    flavor = model["flavors"]["python_function"]
    assert flavor["loader_module"] == "loopline.runtime.pyfunc"
    assert "python_model" not in flavor
    names = [path.name for path in mlflow_model.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".py", ".joblib"))]
    inputs = json.loads(model["signature"]["inputs"])
    assert {entry["name"]: entry["type"] for entry in inputs} == {
        "x": "double",
        "income": "double",
        "city": "string",
        "day": "string",
        "flag": "boolean",
    }


def test_mlflows_loader_answers_pandas(made: Two, mlflow_model: Path) -> None:
    """What MLflow calls gives the release's predictions, missing cells of pandas included."""
    frame = pd.DataFrame(
        {
            "x": [1.5, np.nan, -0.2],
            "income": [0.1, 0.2, None],
            "city": ["Lima", None, "Bonn "],
            "day": ["2020-01-05", "2020-03-01", None],
            "flag": [True, False, None],
            "seen": [pd.Timestamp("2020-01-01"), pd.NaT, pd.NaT],
        },
        index=[7, 3, 5],
    )
    given = pyfunc._load_pyfunc(str(mlflow_model / "model")).predict(frame)
    with loopline.open_project(made.store) as opened:
        expected = opened.release(made.trees).predict(frame.drop(columns="seen"))
    assert list(given.index) == [7, 3, 5]
    assert given["prediction"].tolist() == expected["prediction"].tolist()
    assert np.array_equal(given["probability_yes"], expected["probability_yes"])


class _Service(BaseHTTPRequestHandler):
    """Answers rows like the service; what it does wrong is set on the server."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        if self.headers["Authorization"] != "Bearer secret":
            self.send_error(401)
            return
        answers = [server.release.predict_one(row) for row in body]
        if server.wrong == "number":
            answers[5]["probability"]["yes"] += 1e-5
        if server.wrong == "form":
            answers = [{"label": 1} for _ in body]
        if server.wrong == "few":
            answers = answers[1:]
        data = json.dumps({"predictions": answers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service(release: Release) -> Iterator[Any]:
    """A service on loopback, with its address."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.release, server.wrong = release, ""
    server.url = f"http://127.0.0.1:{server.server_address[1]}/predict"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_service_is_proved_before_promotion(
    project: Project, made: Two, service: Any
) -> None:
    """The kept rows go over HTTP as well, and the proof tells so."""
    move = project.promote(made.trees, through=service.url, token="secret")
    assert move.proof["largest"][WAY] == 0.0
    assert set(move.proof["largest"]) == {WAY, "as single rows", "as a table"}


@pytest.mark.parametrize(
    ("wrong", "error", "part"),
    [
        ("number", IntegrityError, "2 differ over HTTP by more than 1e-06; the first is row 5"),
        ("form", IntegrityError, "has another form"),
        ("few", IntegrityError, "gave no list of"),
    ],
)
def test_a_service_that_answers_otherwise_refuses_the_promotion(
    project: Project, made: Two, service: Any, wrong: str, error: Any, part: str
) -> None:
    """A probability off by 1e-5 in each of two batches, another form, a missing answer."""
    service.wrong = wrong
    with pytest.raises(error, match=part):
        project.promote(made.trees, through=service.url, token="secret")
    assert project.aliases.all() == {}


def test_a_service_that_is_not_there_is_told(project: Project, made: Two, service: Any) -> None:
    """No service, a wrong token, and an address that is none."""
    with pytest.raises(InputError, match="refused the kept rows with 401"):
        project.promote(made.trees, through=service.url, token="wrong")
    with pytest.raises(InputError, match=r"does not answer.*Is the service running"):
        project.promote(made.trees, through="http://127.0.0.1:9/predict")
    with pytest.raises(InputError, match="has an address such as"):
        over_http(project.release(made.trees), "file:///etc/passwd")
    assert project.aliases.all() == {}
