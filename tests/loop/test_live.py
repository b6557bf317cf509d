"""A challenger that passed the gate answers live requests, unheard, before it is promoted."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.loop.conftest import Shop, customers, told

from loopline.errors import DataError
from loopline.line.serving import add_all, find_served, make_serve_settings, shadows
from loopline.loop.diary import Diary, Entry
from loopline.loop.live import judged
from loopline.loop.serving import serve_champion
from loopline.serve.following import SHADOWED, Follower
from loopline.serve.server import RunningService
from loopline.serve.service import Service

LIVE = {"shadow": {"requests": 5, "within": "10m"}}
SEEN = {
    "trial": "a", "requests": 100, "failed": 0, "failure": "", "dropped": 0, "rows": 100,
    "differing": 3, "seconds": 1e-4, "champion_seconds": 1e-4,
}  # fmt: skip


def begin(shop: Shop) -> list[Entry]:
    """A look that ends with a challenger as a shadow."""
    shop.settings(loop=LIVE)
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(1000, 1, turned=True))
    return shop.look()


@pytest.fixture(scope="module")
def _begun(_opened: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = Shop(tmp_path_factory.mktemp("begun") / "shop")
    shutil.copytree(_opened, shop.folder)
    news = begin(shop)
    assert [entry.what for entry in news][-2:] == ["trained", "shadowing"]
    assert "As a shadow it now answers live requests" in news[-1].sentence
    return shop.folder


@pytest.fixture
def tried(_begun: Path, tmp_path: Path) -> Shop:
    """A shop with a challenger that waits for live requests, in a folder of its own."""
    shutil.copytree(_begun, tmp_path / "shop")
    return Shop(tmp_path / "shop")


@contextmanager
def served(shop: Shop) -> Iterator[RunningService]:
    """The champion over HTTP, looked up five times a second; canaries here get nine in ten."""
    settings = {"port": 0, "swap_seconds": 0.2, "canary": {"share": 0.9}}
    with shop.project() as project, serve_champion(project, "shop", settings) as running:
        yield running


def ask(running: RunningService, count: int) -> set[str]:
    """Ask so many times, a row each; the versions that answered."""
    versions = set()
    for row in customers(count, 5).drop("bought").to_dicts():
        request = urllib.request.Request(
            f"{running.url}/predict", json.dumps(row).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            versions.add(json.load(answer)["version"])
    return versions


def until(true: Callable[[], Any]) -> Any:
    """Wait for something for at most 20 s."""
    deadline = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def in_trial(running: RunningService) -> Any:
    """The trial beside the champion, once there is one."""
    return until(lambda: running.service.deployments["shop"].trial)


def heard(shop: Shop, name: str, count: int) -> None:
    """Wait until the ledger knows of so many requests."""
    with shop.project() as project:
        until(lambda: sum(e.data[name] for e in project.ledger.events(kind=SHADOWED)[-1:]) >= count)


def aliases(shop: Shop) -> dict[str, str]:
    with shop.project() as project:
        return project.aliases.all()


def test_it_is_promoted_after_live_requests(tried: Shop) -> None:
    """Gate, then five live requests that callers hear the champion on, then the promotion."""
    first = tried.champion()
    challenger = aliases(tried)["shop@shadow"]
    with served(tried) as running:
        in_trial(running)
        assert ask(running, 4) == {first.partition("-")[2][:12]}
        heard(tried, "requests", 4)
        assert tried.look() == []
        assert tried.champion() == first
        ask(running, 1)
        heard(tried, "requests", 5)
        decided = told(tried.look(), "decided")[0]
        until(lambda: running.service.deployments["shop"].champion.id == challenger)
    assert "As a shadow it answered 5 live requests" in decided
    assert aliases(tried) == {"shop@champion": challenger}
    assert not told(tried.look(), "decided")


def test_a_trial_of_the_services_own_stays(tried: Shop) -> None:
    """`loopline serve --challenger` chose whom to try; the alias does not take its place."""
    with tried.project() as project:
        found = find_served("shop@champion", lambda: project)
        service = Service(make_serve_settings({}), store=None)
        add_all(service, [(None, found.release)], project.release("shop@shadow"))
        own = service.deployments["shop"].trial

        async def look() -> None:
            follower = Follower(service, {}, shadows([found]))
            await follower.look()
            assert service.deployments["shop"].trial is own
            service.deployments["shop"].end_trial()
            await follower.look()
            assert service.deployments["shop"].trial is not None
            project.aliases.remove("shop", "shadow")
            await follower.look()
            assert service.deployments["shop"].trial is None
            await service.close()

        asyncio.run(look())


def test_one_error_keeps_it_out(tried: Shop) -> None:
    """The shadow fails at a request: no caller sees it, and the champion stays."""
    first = tried.champion()
    with served(tried) as running:
        trial = in_trial(running)

        def fail(row: Any) -> Any:
            raise DataError("no")

        trial.challenger.answer_row = fail
        assert ask(running, 1) == {first.partition("-")[2][:12]}
        heard(tried, "failed", 1)
        decided = told(tried.look(), "decided")[0]
    assert "It failed at 1 of 1 live request (DataError)" in decided
    assert aliases(tried) == {"shop@champion": first}


def test_without_traffic_the_logged_requests_do(tried: Shop) -> None:
    """Nobody asks for ten minutes: waited for, told, and promoted on the gate and the replay."""
    first = tried.champion()
    tried.time.offset = 400
    assert tried.look() == []
    tried.time.offset = 601
    assert "No live request came" in told(tried.look(), "decided")[0]
    assert tried.champion() != first


def test_a_clock_that_went_back_ends_the_wait(tried: Shop) -> None:
    """Nobody waits for a clock to catch up."""
    tried.time.offset = -3600
    assert told(tried.look(), "decided")


def test_a_champion_that_was_moved_ends_it(tried: Shop) -> None:
    """The challenger was compared with another one; its alias is taken away."""
    with tried.project() as project:
        project.aliases.promote("shop", "champion", "release-of-somebody", why="by hand")
    news = tried.look()
    assert "was moved to release-of-somebody" in told(news, "decided")[0]
    assert "shop@shadow" not in aliases(tried)


def test_a_service_that_takes_it_back_keeps_it_out(tried: Shop) -> None:
    """Labels of live requests showed a service that it is worse."""
    with tried.project() as project:
        name = project.aliases.get("shop", "shadow")
        data = {"name": "shop", "release": name, "reason": "quality: mean loss 2 on 300 labels"}
        project.ledger.append("serve.rolled_back", subject=name, data=data)
    assert "quality: mean loss 2" in told(tried.look(), "decided")[0]
    assert list(aliases(tried)) == ["shop@champion"]


def test_a_shadow_that_cannot_be_loaded_keeps_out(tried: Shop) -> None:
    """A release that a service cannot open is no release to promote."""
    with tried.project() as project:
        name = project.aliases.get("shop", "shadow")
        file = project.store.get(name).path("model/model.json")
    file.chmod(0o644)
    file.write_bytes(b"broken")
    with served(tried) as running:
        heard(tried, "failed", 1)
        assert running.service.deployments["shop"].trial is None
    assert "It failed at 1 of 1 live request" in told(tried.look(), "decided")[0]


@pytest.mark.parametrize("after", ["entry", "decision"])
def test_killed_around_the_trial(shop: Shop, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """Dead before the alias is set, or after it is taken away: the next controller goes on."""
    name = "promote" if after == "entry" else "remove"

    class Dead(BaseException):
        pass

    from loopline.release.aliases import Aliases

    real = getattr(Aliases, name)

    def dies(self: Any, line: str, alias: str, *rest: Any, **more: Any) -> Any:
        if alias != "shadow":
            return real(self, line, alias, *rest, **more)
        if after == "decision":
            real(self, line, alias, *rest, **more)
        raise Dead

    first = shop.champion()
    if after == "decision":
        begin(shop)
        shop.time.offset = 601
    with monkeypatch.context() as patch:
        patch.setattr(Aliases, name, dies)
        with pytest.raises(Dead):
            begin(shop) if after == "entry" else shop.look()
    shop.look()
    if after == "entry":
        assert "shop@shadow" in aliases(shop)
        shop.time.offset = 601
        shop.look()
    assert list(aliases(shop)) == ["shop@champion"]
    assert shop.champion() != first
    with shop.project() as project:
        assert len(Diary(project.ledger, "shop").entries("decided")) == 1


def test_a_promotion_that_was_not_written_down_stands(tried: Shop) -> None:
    """Dead between the move and its entry; what a service tells later does not make it unsaid."""
    with tried.project() as project:
        name = project.aliases.get("shop", "shadow")
        project.aliases.promote("shop", "champion", name, why="the gate")
        late = SEEN | {"name": "shop", "release": name, "failed": 1, "failure": "DataError"}
        project.ledger.append(SHADOWED, subject=name, data=late)
    assert told(tried.look(), "decided")[0].startswith("Promoted")
    assert tried.champion() == name


def test_counts_of_several_services_add_up() -> None:
    """The newest word of each trial counts: 60 and 100 requests, 160 together."""
    early, late = SEEN | {"requests": 10}, SEEN | {"requests": 60}
    check = judged([early, SEEN | {"trial": "b"}, late], None)
    assert (check.passed, check.facts["requests"], check.facts["services"]) == (True, 160, 2)


@pytest.mark.parametrize(
    ("seconds", "limit", "passed"),
    [
        (9e-4, None, True),  # nine times the champion's, but below a millisecond more
        (2e-3, None, False),
        (2e-3, 3e-3, True),
        (4e-3, 3e-3, False),
        (9e-4, 5e-5, True),  # the champion itself takes longer here than the limit says
    ],
)
def test_it_must_be_fast_enough(seconds: float, limit: float | None, passed: bool) -> None:
    """Within the line's limit; without one, twice the champion or a millisecond more."""
    assert judged([SEEN | {"seconds": seconds}], limit).passed is passed


def test_values_do_not_agree_or_differ() -> None:
    """No two models give one and the same number, so nothing is said of it."""
    assert "agrees" in judged([SEEN], None).sentence
    assert "agrees" not in judged([SEEN | {"differing": None}], None).sentence


def test_a_few_answers_say_nothing_of_speed() -> None:
    """Nineteen slow ones are too few."""
    assert judged([SEEN | {"requests": 19, "seconds": 1.0}], None).passed
