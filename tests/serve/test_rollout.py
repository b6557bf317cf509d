"""Champion, challenger, swap and lanes: a bad model never reaches a caller."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Client, Serve, plain

import loopline
from loopline.errors import DataError, InputError, NotFoundError, SettingsError
from loopline.serve.lane import Lane
from loopline.serve.log import read_log
from loopline.serve.model import ServedModel
from loopline.serve.reply import Refusal
from loopline.serve.rollout import Trial
from loopline.serve.settings import CanarySettings, InputSettings
from loopline.serve.workers import Worker, join, share
from loopline.store.artifacts import Store


def asked(client: Client, row: Any, times: int) -> list[str]:
    """The versions that answered, all with 200."""
    answers = [client.post("/predict", row) for _ in range(times)]
    assert {answer.status for answer in answers} == {200}
    return [answer.json()["version"] for answer in answers]


def version(release: Any) -> str:
    """A release's version as served."""
    return str(release.id.partition("-")[2][:12])


def test_a_shadow_answers_nobody_and_is_logged(
    serve: Serve, releases: Any, rows: Any, tmp_path: Any
) -> None:
    """Callers hear the champion only; the shadow's answers to the same rows stand in the log."""
    client = serve(releases["binary"], challenger=releases["other"], store=tmp_path)
    data = plain(rows)
    assert set(asked(client, data[0], 5)) == {version(releases["binary"])}
    together = client.post("/predict", data).json()["id"]
    client.running.close()
    log = read_log(Store.open(tmp_path))
    roles = dict(log.group_by("role").len().iter_rows())
    assert roles == {"champion": 65, "shadow": 65}
    shadow = log.filter((pl.col("role") == "shadow") & (pl.col("row") == 0))
    assert set(shadow["request_id"]) == set(log.filter(pl.col("role") == "champion")["request_id"])
    several = log.filter(role="shadow", request_id=together).sort("row")
    wanted = releases["other"].predict(rows)
    assert several.select(wanted.columns).equals(wanted)


def test_a_canary_answers_its_share(serve: Serve, releases: Any, rows: Any) -> None:
    """With a share of a quarter every fourth request is the challenger's."""
    settings = {"canary": {"share": 0.25, "min_requests": 10_000}}
    client = serve(releases["binary"], challenger=releases["other"], settings=settings)
    versions = asked(client, plain(rows)[0], 40)
    assert versions.count(version(releases["other"])) == 10


def broken(client: Client, answer: Any) -> None:
    """Make the challenger of a service answer otherwise."""
    (deployment,) = client.service.deployments.values()
    model = deployment.trial.challenger
    model._raw_row = answer


def test_a_broken_challenger_is_taken_back(serve: Serve, releases: Any, rows: Any) -> None:
    """It fails, no caller sees it, and after five failures the champion answers alone."""
    settings = {"canary": {"share": 0.5}}
    client = serve(releases["binary"], challenger=releases["other"], settings=settings)

    def fail(row: Any) -> Any:
        raise ZeroDivisionError("broken")

    broken(client, fail)
    assert set(asked(client, plain(rows)[0], 20)) == {version(releases["binary"])}
    assert client.metric("challenger_failures_total") == 5
    assert client.metric("rollbacks_total", reason="errors") == 1
    assert client.get(f"/v2/models/binary/versions/{version(releases['other'])}").status == 404


def test_workers_take_a_challenger_back_together(
    serve: Serve, releases: Any, rows: Any, tmp_path: Any
) -> None:
    """What one worker takes back, another one that shares its folder takes back too."""
    settings = {"canary": {"share": 0.5}}
    one, other = (
        serve(releases["binary"], challenger=releases["other"], settings=settings) for _ in range(2)
    )
    join(Worker(0, 0, tmp_path), one.running._server)

    def fail(row: Any) -> Any:
        raise ZeroDivisionError("broken")

    broken(one, fail)
    asked(one, plain(rows)[0], 12)
    one.running.close()
    assert other.service.deployments["binary"].trial is not None
    with contextlib.suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(share(Worker(1, 0, tmp_path), other.service), 0.2))
    assert other.service.deployments["binary"].trial is None
    assert (tmp_path / "1.json").exists()


def test_rows_that_are_wrong_do_not_speak_against_a_challenger(
    serve: Serve, releases: Any, rows: Any
) -> None:
    """Rows that the champion refuses too are the caller's fault."""
    settings = {"canary": {"share": 0.5}}
    client = serve(releases["binary"], challenger=releases["other"], settings=settings)
    wrong = plain(rows)[0] | {"x": "twelve"}
    assert {client.post("/predict", wrong).status for _ in range(30)} == {422}
    assert client.metric("rollbacks_total") == 0


def test_a_slow_challenger_is_taken_back(serve: Serve, releases: Any, rows: Any) -> None:
    """A challenger that takes more than twice the champion's time for a row is taken back."""
    settings = {"canary": {"share": 0.5, "min_requests": 50}}
    client = serve(releases["binary"], challenger=releases["other"], settings=settings)
    answer = client.service.deployments["binary"].trial.challenger._raw_row

    def slow(row: Any) -> Any:
        time.sleep(0.003)
        return answer(row)

    broken(client, slow)
    asked(client, plain(rows)[0], 110)
    assert client.metric("rollbacks_total", reason="latency") == 1


def test_a_worse_challenger_is_taken_back_by_its_labels(
    serve: Serve, releases: Any, rows: Any, tmp_path: Any
) -> None:
    """Labels that arrive show a worse loss: the challenger goes."""
    settings = {"canary": {"share": 0.5, "min_labels": 20, "max_slowdown": 1e9}}
    client = serve(
        releases["binary"], challenger=releases["other"], settings=settings, folder=tmp_path
    )
    broken(client, lambda row: np.array([0.5, 0.5]))
    (yes,) = [row for row in plain(rows) if _sure(releases["binary"], row)][:1]
    given = [client.post("/predict", yes).json()["id"] for _ in range(60)]
    answer = client.post("/feedback", [{"id": one, "label": "yes"} for one in given])
    assert answer.json()["taken"] == ["new"] * 60
    assert client.metric("rollbacks_total", reason="quality") == 1


def _sure(release: Any, row: Any) -> bool:
    return bool(release.predict_one(row)["probability"]["yes"] > 0.8)


def test_a_challenger_as_good_stays(releases: Any) -> None:
    """Two thousand labels of two models with equal losses take nothing back, in 50 trials."""
    model = ServedModel(releases["binary"], InputSettings())
    taken = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        trial = Trial(model, model, CanarySettings(share=0.5))
        for n in range(2000):
            side = ("champion", "challenger")[n % 2]
            chance = rng.beta(2, 2)
            trial.answered(side, f"{n}", np.array([1 - chance, chance]), 1e-5)
            trial.labelled(f"{n}", 0, "yes" if rng.random() < chance else "no")
            if n % 100 == 99 and trial.verdict_on_quality():
                taken += 1
                break
    assert taken <= 2


def test_a_challenger_must_predict_the_same(serve: Serve, releases: Any) -> None:
    """Another task, the champion itself, or no champion at all: refused at start."""
    with pytest.raises(DataError, match="only like can be tried beside like"):
        serve(releases["binary"], challenger=releases["regression"])
    with pytest.raises(DataError, match="is the champion itself"):
        serve(releases["binary"], challenger=releases["binary"])
    with pytest.raises(NotFoundError, match="nothing to serve"):
        serve()
    with pytest.raises(SettingsError, match="has no effect without a challenger"):
        serve(releases["binary"], settings={"canary": {"share": 0.5}})
    with pytest.raises(SettingsError, match="`workers` has no effect in a thread"):
        serve(releases["binary"], settings={"workers": 2})
    with pytest.raises(InputError, match="is named twice"):
        serve(releases["binary"], releases["binary"])


def test_versions_of_one_name(serve: Serve, releases: Any, rows: Any) -> None:
    """The first release of a name answers; the other does when it is asked for by version."""
    client = serve(releases["binary"], releases["other"])
    both = [version(releases["binary"]), version(releases["other"])]
    assert client.get("/v2/models/binary").json()["versions"] == both
    body = {
        "inputs": [
            {"name": name, "shape": [1], "data": [value],
             "datatype": {"x": "FP64", "height": "FP64", "size": "INT64", "flag": "BOOL"}
             .get(name, "BYTES")}
            for name, value in plain(rows)[0].items()
        ]
    }  # fmt: skip
    answered = client.post(f"/v2/models/binary/versions/{both[1]}/infer", body).json()
    wanted = releases["other"].predict(rows[:1])
    assert answered["model_version"] == both[1]
    assert answered["outputs"][1]["data"] == list(wanted.row(0)[1:])
    assert client.post(f"/v2/models/binary/versions/{'0' * 12}/infer", body).status == 404


def test_several_models_need_a_name(client: Client, rows: Any) -> None:
    """`/predict` without a name is refused where several are served."""
    answer = client.post("/predict", plain(rows)[0])
    assert (answer.status, "name one in the path" in answer.json()["error"]) == (400, True)


class Load(threading.Thread):
    """Callers that ask without a pause; remembers every answer that was not 200."""

    def __init__(self, client: Client, row: Any) -> None:
        super().__init__()
        self._client, self._row = client, row
        self.versions: list[str] = []
        self.failures: list[Any] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            answer = self._client.post("/predict", self._row)
            if answer.status == 200:
                self.versions.append(answer.json()["version"])
            else:
                self.failures.append((answer.status, answer.body))


def swap(client: Client, load: Any) -> bool:
    """Swap from another thread, as the server's loop does."""
    loop = client.running._server.servers[0].get_loop()
    work = client.service.swap("binary", load)
    return bool(asyncio.run_coroutine_threadsafe(work, loop).result(30))


def test_swaps_under_load_fail_no_request(serve: Serve, releases: Any, rows: Any) -> None:
    """Ten swaps while three callers ask: every request is answered, by one or the other."""
    client = serve(releases["binary"])
    callers = [Load(client, plain(rows)[0]) for _ in range(3)]
    for caller in callers:
        caller.start()
    for n in range(10):
        assert swap(client, lambda n=n: releases[("other", "binary")[n % 2]])
    time.sleep(0.1)
    for caller in callers:
        caller.ended.set()
        caller.join()
    assert [caller.failures for caller in callers] == [[]] * 3
    answered = {version for caller in callers for version in caller.versions}
    assert answered == {version(releases["binary"]), version(releases["other"])}


def test_a_swap_to_a_broken_release_stays_on_the_old(
    serve: Serve, releases: Any, rows: Any, tmp_path: Any
) -> None:
    """A flipped byte, a symlink or a lost file in the new release: the old one answers on."""
    client = serve(releases["binary"])
    copy = releases["other"].save(tmp_path / "copy")
    file = next(path for path in copy.rglob("*") if path.name == "release.json")
    good = file.read_bytes()
    breaks = [
        lambda: file.write_bytes(good.replace(b'"classes"', b'"klasses"')),
        lambda: (file.unlink(), file.symlink_to("/etc/hostname")),
        lambda: file.unlink(),
    ]
    for harm in breaks:
        harm()
        assert not swap(client, lambda: loopline.load_release(copy))
        assert set(asked(client, plain(rows)[0], 2)) == {version(releases["binary"])}
    assert client.metric("swaps_total", outcome="failed") == 3


def test_a_trial_goes_on_beside_a_new_champion(serve: Serve, releases: Any, rows: Any) -> None:
    """A swap begins the trial anew; it ends when the challenger itself becomes the champion."""
    client = serve(releases["binary"], challenger=releases["other"])
    deployment = client.service.deployments["binary"]
    before = deployment.trial
    assert swap(client, lambda: releases["binary"])
    assert deployment.trial is not before
    assert deployment.trial.challenger.id == releases["other"].id
    assert swap(client, lambda: releases["other"])
    assert deployment.trial is None
    assert list(deployment.versions) == [version(releases["other"])]


def run_lane(work: Any, predict: Any, **limits: int) -> Any:
    """Run a coroutine with a lane in front of a slow model."""

    async def main() -> Any:
        with ThreadPoolExecutor(2) as executor:
            given = {"batch_rows": 8, "max_rows": 100} | limits
            return await work(Lane(predict, executor, **given))

    return asyncio.run(main())


def frame(*values: float) -> pl.DataFrame:
    """A table of one column."""
    return pl.DataFrame({"x": list(values)})


def test_a_lane_batches_what_waits_and_no_more() -> None:
    """The first goes at once and alone; those that came meanwhile go together, in rows <= 8."""
    sizes: list[int] = []

    def predict(table: pl.DataFrame) -> Any:
        sizes.append(table.height)
        time.sleep(0.02)
        return table["x"].to_numpy() * 2

    async def work(lane: Lane) -> Any:
        first = asyncio.create_task(lane.predict(frame(1)))
        await asyncio.sleep(0.005)
        rest = [lane.predict(frame(n, n)) for n in range(5)]
        return await first, await asyncio.gather(*rest)

    first, rest = run_lane(work, predict)
    assert first.tolist() == [2]
    assert [found.tolist() for found in rest] == [[2 * n, 2 * n] for n in range(5)]
    assert sizes == [1, 8, 2]


def test_a_long_request_is_worked_on_in_parts() -> None:
    """A request of more rows than a batch never makes a larger batch."""
    sizes: list[int] = []

    def predict(table: pl.DataFrame) -> Any:
        sizes.append(table.height)
        return table["x"].to_numpy()

    found = run_lane(lambda lane: lane.predict(frame(*range(20))), predict)
    assert found.tolist() == list(range(20))
    assert sizes == [8, 8, 4]


def test_rows_that_fail_do_not_fail_others() -> None:
    """In a batch in which one request's rows break the model, the others are answered."""

    def predict(table: pl.DataFrame) -> Any:
        time.sleep(0.01)
        if table["x"].max() == 13:
            raise DataError("unlucky")
        return table["x"].to_numpy()

    async def work(lane: Lane) -> Any:
        tasks = [asyncio.create_task(lane.predict(frame(n))) for n in (1, 2, 13, 4)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = run_lane(work, predict)
    assert [type(one).__name__ for one in found] == ["ndarray", "ndarray", "DataError", "ndarray"]


def test_a_full_lane_says_when_to_come_back() -> None:
    """More rows than may wait: 429 with Retry-After; those that wait are answered."""

    def predict(table: pl.DataFrame) -> Any:
        time.sleep(0.05)
        return table["x"].to_numpy()

    async def work(lane: Lane) -> Any:
        tasks = [asyncio.create_task(lane.predict(frame(*range(4)))) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await lane.predict(frame(1))
        return refused.value, await asyncio.gather(*tasks)

    refusal, answered = run_lane(work, predict, max_rows=12)
    assert refusal.status == 429
    assert dict(refusal.headers)[b"retry-after"] == b"1"
    assert len(answered) == 3


def test_a_heavy_model_is_batched(serve: Serve, releases: Any, rows: Any) -> None:
    """A model whose rows cost milliseconds leaves the event loop: health answers meanwhile."""
    client = serve(releases["binary"])
    deployment = client.service.deployments["binary"]
    deployment.champion.row_seconds = 0.01
    answer = deployment.champion.release.raw
    sizes: list[int] = []

    go_on = threading.Event()

    def slow(table: pl.DataFrame) -> Any:
        sizes.append(table.height)
        assert go_on.wait(20)
        return answer(table)

    deployment.champion.release.raw = slow
    try:
        callers = [
            threading.Thread(target=client.post, args=("/predict", row)) for row in plain(rows)[:12]
        ]
        for caller in callers:
            caller.start()
        while not sizes:
            time.sleep(0.01)
        assert client.get("/v2/health/ready").status == 200
        go_on.set()
        for caller in callers:
            caller.join()
    finally:
        del deployment.champion.release.raw
    assert sum(sizes) == 12


def test_too_many_requests_at_once(serve: Serve, releases: Any, rows: Any) -> None:
    """Beyond `waiting` requests get 429 and Retry-After, and the others their answers."""
    client = serve(releases["binary"], settings={"limits": {"waiting": 2}})
    deployment = client.service.deployments["binary"]
    deployment.champion.row_seconds = 0.01
    answer = deployment.champion.release.raw

    def slow(table: pl.DataFrame) -> Any:
        time.sleep(0.3)
        return answer(table)

    deployment.champion.release.raw = slow
    found: list[Any] = []
    try:
        row = plain(rows)[0]
        callers = [
            threading.Thread(target=lambda: found.append(client.post("/predict", row)))
            for _ in range(6)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        del deployment.champion.release.raw
    assert sorted({one.status for one in found}) == [200, 429]
    assert all(one.headers["retry-after"] == "1" for one in found if one.status == 429)


def test_losses_are_those_of_the_task(releases: Any) -> None:
    """Log loss for classes, squared error for values: worked by hand."""
    trial = Trial(
        ServedModel(releases["regression"], InputSettings()),
        ServedModel(releases["regression"], InputSettings()),
        CanarySettings(),
    )
    trial.answered("champion", "a", np.array([3.0]), 0.0)
    trial.labelled("a", 0, 5.0)
    assert list(trial.sides["champion"].losses) == [4.0]
    binary = ServedModel(releases["binary"], InputSettings())
    trial = Trial(binary, binary, replace_share())
    trial.answered("challenger", "b", np.array([[0.5, 0.5], [0.0, 1.0]]), 0.0)
    trial.labelled("b", 0, "no")
    trial.labelled("b", 1, "no")
    assert trial.sides["challenger"].losses[0] == pytest.approx(0.693147, abs=1e-6)
    assert trial.sides["challenger"].losses[1] == pytest.approx(34.5388, abs=1e-4)


def replace_share() -> CanarySettings:
    """A trial as a canary."""
    return CanarySettings(share=0.5)
