"""What a request costs: Loopline's service beside hand-written and packaged ones.

    python benchmarks/serving.py --peers FOLDER     # makes a virtual environment for each peer

200 rows of 20 mixed features, one a request, through checks, preprocessing and 100 trees of
LightGBM, sent as JSON over connections that are kept, from a second process. All services run at
once and are asked in turns, so that a noisy machine is as noisy for each. Reported are processor
time a request (all processes of a service), the time of a request at concurrency 1 and 32, and
resident memory; of several turns the median and the best. Every peer holds the very same model
file, and its answer must be ours. Loopline checks the input contract, watches windows and logs
every prediction; the peers do none of these. `loopline (no log)` leaves the log out.

MLServer stands here twice: its own LightGBM runtime, which takes numbers only, is sent finished
rows (`mlserver`: no preprocessing, and 0 for a missing number, which its JSON cannot say); a
runtime by hand makes the numbers of a row as the other peers do (`mlserver_rows`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from predict import make_table

import loopline

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "serving.json"
PACKAGES = {
    "fastapi": ["fastapi", "uvicorn", "uvloop", "httptools", "lightgbm", "pandas"],
    "litserve": ["litserve", "lightgbm"],
    "bentoml": ["bentoml", "lightgbm"],
    "mlserver": ["mlserver", "mlserver-lightgbm"],
    "mlflow": ["mlflow", "lightgbm"],
}
ROWS = 200
"""Sent in turn: a service that sees one row for ever says that its columns stand still."""
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Service:
    """One running service."""

    name: str
    port: int
    path: str
    body: Path
    process: subprocess.Popen
    read: Callable[[dict], float]
    microseconds: dict[int, list[float]] = field(default_factory=lambda: {1: [], 32: []})
    loads: dict[int, list[dict]] = field(default_factory=lambda: {1: [], 32: []})
    resident_mb: float = 0.0

    def tree(self) -> list[int]:
        """The service's processes."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            queue += [int(child) for child in children]
        return found

    def cpu_seconds(self) -> float:
        """Processor time so far, of all its processes."""
        total = 0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def memory_mb(self) -> float:
        """Resident memory of all its processes."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.tree()]
        return sum(pages) * PAGE / 1e6


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def prepare(folder: Path) -> tuple[Path, list[dict], float]:
    """A release of 100 trees, its model and levels for the peers, a row, and our answer."""
    store = folder / "store"
    table = make_table(4_000, 0)
    loopline.fit(
        table,
        "target",
        models={"lightgbm": {"rounds": 100}},
        store=store,
        progress=False,
        settings={"name": "bench", "calibration": "none"},
    )
    with loopline.open_project(store) as project:
        release = project.release("bench")
    frame = make_table(ROWS, 2).drop("target")
    rows = pl.concat([frame.drop_nulls().head(1), frame]).to_dicts()
    row = rows[0]
    model = release.artifact.path("model") / "estimator" / "model.txt"
    (folder / "model.txt").write_text(model.read_text())
    graph = release.model.graph
    checked, _ = release.contract.check(pl.DataFrame(rows))
    first = release.contract.check_row(row)
    columns = []
    for place, name in enumerate(graph.columns):
        column = next(column for column in release.contract.columns if column.name == name)
        codes = {
            level: float(graph.transform_row({**first, name: level})[0, place])
            for level in column.levels
        }
        columns.append({"name": name, "kind": column.kind, "codes": codes})
    (folder / "columns.json").write_text(json.dumps(columns))
    write_bodies(folder / "rows.jsonl", rows)
    write_bodies(
        folder / "numbers.jsonl",
        [
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": [1, len(numbers)],
                        "datatype": "FP64",
                        "data": numbers.tolist(),
                    }
                ]
            }
            for numbers in np.nan_to_num(graph.transform(checked))
        ],
    )
    return store, rows, release.predict_one(row)["probability"]["yes"]


def write_bodies(file: Path, bodies: list[dict]) -> Path:
    """A request's JSON a line."""
    file.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return file


def environment(name: str, peers: Path) -> Path | None:
    """The interpreter of a peer's virtual environment; made when it is not there."""
    python = peers / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peers / name)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", *PACKAGES[name]]
        if subprocess.run(pip, check=False).returncode:
            print(f"{name} could not be installed and is left out")
            return None
    return python


def commands(folder: Path, store: Path, rows: list[dict], peers: Path) -> Iterator[tuple]:
    """Name, command by port, path, body, and where the answer holds the probability."""
    ours = [sys.executable, "-m", "loopline", "serve", "bench", "--store", str(store), "--port"]

    def yes(answer: dict) -> float:
        return answer["probability"]["yes"]

    def plain(answer: dict) -> float:
        return answer["probability"]

    row = folder / "rows.jsonl"
    yield "loopline", lambda port: [*ours, str(port)], "/predict", row, yes
    yield "loopline (no log)", lambda port: [*ours, str(port), "--no-log"], "/predict", row, yes
    for name in PACKAGES:
        python = environment(name, peers)
        if python is None:
            continue
        if name == "fastapi":
            for app in ("fastapi_numpy", "fastapi_pandas"):
                base = [
                    str(python),
                    "-m",
                    "uvicorn",
                    f"{app}:app",
                    "--log-level",
                    "error",
                    "--no-access-log",
                    "--loop",
                    "uvloop",
                    "--http",
                    "httptools",
                    "--port",
                ]
                yield app, lambda port, base=base: [*base, str(port)], "/predict", row, plain
        elif name == "litserve":
            command = [str(python), str(HERE / "peers" / "litserve_app.py")]
            yield name, lambda port, command=command: command, "/predict", row, plain
        elif name == "bentoml":
            base = [str(python), "-m", "bentoml", "serve", "bentoml_app:Model", "-q", "--port"]
            body = write_bodies(folder / "bento.jsonl", [{"row": one} for one in rows])
            yield name, lambda port, base=base: [*base, str(port)], "/predict", body, plain
        elif name == "mlflow":
            yield mlflow_line(folder, rows, python)
        else:
            yield from mlserver_lines(folder, rows, python)


def mlserver_lines(folder: Path, rows: list[dict], python: Path) -> Iterator[tuple]:
    """MLServer's own LightGBM runtime on finished numbers, and one by hand on rows."""
    tensors = write_bodies(folder / "tensors.jsonl", [{"inputs": as_tensors(row)} for row in rows])
    kinds = {
        "mlserver": ("mlserver_lightgbm.LightGBMModel", folder / "numbers.jsonl"),
        "mlserver_rows": ("mlserver_app.Rows", tensors),
    }
    for name, (implementation, bodies) in kinds.items():
        place = folder / name
        place.mkdir()
        model = {"uri": str(folder / "model.txt")}
        (place / "model-settings.json").write_text(
            json.dumps({"name": "bench", "implementation": implementation, "parameters": model})
        )

        def command_of(port: int, place: Path = place) -> list[str]:
            settings = {
                "http_port": port,
                "grpc_port": free_port(),
                "debug": False,
                "metrics_port": free_port(),
                "parallel_workers": 0,
            }
            (place / "settings.json").write_text(json.dumps(settings))
            return [str(python.parent / "mlserver"), "start", str(place)]

        def read(answer: dict) -> float:
            return answer["outputs"][0]["data"][0]

        yield name, command_of, "/v2/models/bench/infer", bodies, read


def as_tensors(row: dict) -> list[dict]:
    """A row as the Open Inference Protocol sends it: one tensor a column that is not missing."""
    kinds = {bool: "BOOL", str: "BYTES"}
    return [
        {
            "name": name,
            "shape": [1],
            "datatype": kinds.get(type(value), "FP64"),
            "data": [value],
        }
        for name, value in row.items()
        if value is not None
    ]


def mlflow_line(folder: Path, rows: list[dict], python: Path) -> tuple:
    """MLflow's own server around a python_function that it has saved, without a data base."""
    model = folder / "mlflow_model"
    given = {"PEER_FOLDER": str(folder), "PYTHONPATH": str(HERE / "peers")}
    subprocess.run(
        [str(python), str(HERE / "peers" / "mlflow_app.py"), str(model)],
        env=os.environ | given,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    body = write_bodies(folder / "mlflow.jsonl", [{"dataframe_records": [row]} for row in rows])
    base = ["env", f"PATH={python.parent}{os.pathsep}{os.environ['PATH']}", "mlflow", "models"]
    base += ["serve", "--env-manager", "local", "-w", "1"]

    def read(answer: dict) -> float:
        return answer["predictions"][0]

    return (
        "mlflow",
        lambda port: [*base, "-m", str(model), "-p", str(port)],
        "/invocations",
        body,
        read,
    )


@contextmanager
def running(folder: Path, line: tuple, wanted: float) -> Iterator[Service | None]:
    name, command, path, body, read = line
    port = free_port()
    given = {
        "PEER_FOLDER": str(folder),
        "PEER_PORT": str(port),
        "PYTHONPATH": str(HERE / "peers"),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }
    if name.startswith("loopline"):
        given["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    log = (folder / f"{name}.log").open("w")
    process = subprocess.Popen(
        command(port),
        env=os.environ | given,
        stdout=log,
        stderr=log,
        cwd=HERE / "peers",
        start_new_session=True,
    )
    service = Service(name, port, path, body, process, read)
    try:
        answer = first_answer(service)
        if answer is None:
            print(f"{name} did not answer; see its last lines:")
            print("\n".join((folder / f"{name}.log").read_text().splitlines()[-5:]))
            yield None
        else:
            if abs(answer - wanted) > 1e-12:
                raise SystemExit(f"{name} answers {answer}, not {wanted}")
            yield service
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def first_answer(service: Service, seconds: float = 90) -> float | None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{service.path}",
        service.body.read_bytes().splitlines()[0],
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end and service.process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return service.read(json.loads(answer.read()))
        except OSError:
            time.sleep(0.3)
    return None


def turn(service: Service, concurrency: int, requests: int) -> None:
    command = [
        sys.executable,
        str(HERE / "serving_load.py"),
        str(service.port),
        service.path,
        str(service.body),
        str(concurrency),
        str(requests),
    ]
    before = service.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = service.cpu_seconds() - before
    found = json.loads(done.stdout)
    service.microseconds[concurrency].append(spent / found["requests"] * 1e6)
    service.loads[concurrency].append(found)
    service.resident_mb = max(service.resident_mb, service.memory_mb())


def summary(service: Service) -> dict:
    def middle(concurrency: int, name: str) -> float:
        return statistics.median(load[name] for load in service.loads[concurrency])

    def best(concurrency: int, name: str) -> float:
        return min(load[name] for load in service.loads[concurrency])

    return {
        "cpu_us_per_request": {
            f"c{c}": {"median": round(statistics.median(v), 1), "best": round(min(v), 1)}
            for c, v in service.microseconds.items()
        },
        "c1_p50_ms": {"median": middle(1, "p50_ms"), "best": best(1, "p50_ms")},
        "c1_p99_ms": {"median": middle(1, "p99_ms"), "best": best(1, "p99_ms")},
        "c32_per_second": max(load["per_second"] for load in service.loads[32]),
        "resident_mb": round(service.resident_mb),
    }


def versions(peers: Path) -> dict[str, str]:
    found = {"python": platform.python_version(), "loopline": loopline.__version__}
    for name in PACKAGES:
        python = peers / name / "bin" / "python"
        code = f"from importlib.metadata import version; print(version({name!r}))"
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, check=False
        )
        found[name] = done.stdout.strip()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="folder of virtual environments")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of a turn")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        store, rows, wanted = prepare(folder)
        lines = list(commands(folder, store, rows, given.peers.resolve()))
        found = [stack.enter_context(running(folder, line, wanted)) for line in lines]
        services = [service for service in found if service is not None]
        counts = {}
        for service in services:
            turn(service, 32, 320)  # warm-up, and how many requests a turn may have
            cost = max(20e-6, service.microseconds[32][0] / 1e6)
            counts[service.name] = int(max(160, given.seconds / cost) // 32 * 32)
            service.loads[32].clear()
            service.microseconds[32].clear()
        for done in range(1, given.turns + 1):
            for concurrency in (1, 32):
                for service in services:
                    turn(service, concurrency, counts[service.name])
            write(services, done, given.peers, given.out)
    for name, one in json.loads(given.out.read_text())["services"].items():
        print(name, json.dumps(one))


def write(services: list[Service], turns: int, peers: Path, out: Path) -> None:
    """Write what has been measured so far."""
    results = {service.name: summary(service) for service in services}
    ours = results["loopline"]["cpu_us_per_request"]["c32"]
    for one in results.values():
        ratio = {k: round(v / ours[k], 1) for k, v in one["cpu_us_per_request"]["c32"].items()}
        one["cpu_of_loopline"] = ratio
    setting = {
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 1),
        "turns": turns,
        "versions": versions(peers),
    }
    out.write_text(json.dumps({"services": results, "setting": setting}, indent=2) + "\n")


if __name__ == "__main__":
    main()
