"""The controller: looks for news, asks the monitor, starts an attempt, and carries it to its end.

    files and labels ─▶ rows ─▶ monitor ─▶ trigger ─▶ rows set aside ─▶ line ─▶ gate ─▶ champion
                          ▲                                                              │
                          └──────────────────── rollback watch ◀─────────────────────────┘

Everything it knows stands in the ledger, so it may be killed at any moment: the next one finishes
the attempt that was begun, with the rows that were set aside for it. Whatever goes wrong is an
entry of the diary, and the champion goes on serving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from loopline.data.schema import has_classes
from loopline.errors import EnvironmentProblem, LooplineError, NotFoundError, SettingsError
from loopline.evaluate.rows import Rows
from loopline.line.context import LineContext
from loopline.line.files import LineFile
from loopline.line.project import Project
from loopline.line.runner import run_line
from loopline.line.spec import Spec
from loopline.loop.arrivals import Arrivals
from loopline.loop.attempt import answers, begin, read_attempt, run_of
from loopline.loop.bout import LOSS, Bout
from loopline.loop.checks import spent
from loopline.loop.cut import TooFew, cut_rows
from loopline.loop.decide import Decider
from loopline.loop.diary import Diary, Entry, rolled_back
from loopline.loop.doubt import LOSS_NAMES, losses
from loopline.loop.gate import surely_worse
from loopline.loop.labels import answered_rows
from loopline.loop.pool import Pool, gather
from loopline.loop.receivers import notify, write_gauges
from loopline.loop.steady import Clock
from loopline.loop.triggers import FEWEST_LABELS, become_worse, due
from loopline.loop.watching import Notice, NoWatch, Watch
from loopline.progress import Reporter
from loopline.release.aliases import CHAMPION, Move, previous
from loopline.release.bundle import Release
from loopline.words import counted, estimate, nearest

NEW_LOSSES = 1_000
"""The champion's performance is judged on so many of the newest labelled rows."""
JUMPED_SECONDS = 300.0
"""A clock that goes back by more than this is told of."""


class Controller:
    """Watches one line. `once` looks a single time, `run` goes on for ever.

    Args:
        project: store and ledger.
        line: the settings and their folder.
        reporter: hears of progress.
        watch: the monitor; by default none.
        tell: hears each new entry of the diary.
        folder: where the service keeps labels (default: beside a local store).
        clock: what time it is.
    """

    def __init__(
        self,
        project: Project,
        line: LineFile,
        reporter: Reporter,
        *,
        watch: Watch | None = None,
        tell: Callable[[Entry], None] | None = None,
        folder: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.project, self.line, self.reporter = project, line, reporter
        self.spec = line.spec
        self.diary = Diary(project.ledger, line.spec.line_name)
        self._watch: Watch = watch or NoWatch()
        self._tell = tell or (lambda entry: None)
        self._labels = folder
        self._clock = clock or Clock()
        context = LineContext(line.spec, line.folder, project.store, project.ledger, reporter)
        self._arrivals = Arrivals(project, self.diary, context, self._clock)
        self._decider = Decider(project, line, self.diary, reporter, self._clock, folder)
        self._told = max((entry.id for entry in self.diary.timeline()), default=0)

    def prepare(self) -> bool:
        """Make and promote the line's first champion where nothing serves yet; whether one does."""
        champion = self._champion()
        self._say_news()
        return champion is not None

    def run(
        self, stop: Callable[[], bool] = lambda: False, held: Callable[[], bool] = lambda: True
    ) -> None:
        """Look again and again until `stop` says so, as long as the lease is `held`.

        A ledger that cannot be reached is waited for: what is served meanwhile goes on.
        """
        while not stop():
            try:
                if held():
                    self.once()
            except EnvironmentProblem as error:
                self.reporter.note(f"This look failed and is tried again: {error}")
            waited = 0.0
            while waited < self.spec.loop.poll and not stop():
                pause = min(0.5, self.spec.loop.poll - waited)
                self._clock.sleep(pause)
                waited += pause

    def once(self) -> list[Entry]:
        """Look once: finish what was begun, take what came, decide what is due.

        Returns:
            The entries that this look added to the diary.
        """
        before = self._told
        try:
            self._look()
        except SettingsError:
            raise
        except (LooplineError, OSError, MemoryError) as error:
            self.diary.tell_news("failed", f"This look failed, the champion goes on: {error}")
        self._say_news()
        alarms = self.spec.alarms
        for sentence in notify(self.project.ledger, self.diary, alarms):
            self.reporter.note(sentence)
        if alarms.prometheus is not None:
            write_gauges(alarms.prometheus, self.diary, self._clock.now())
        return [entry for entry in self.diary.timeline() if entry.id > before]

    def _look(self) -> None:
        pending = self.diary.pending()
        if pending is not None and not self._decider.finish(read_attempt(pending)):
            return
        champion = self._champion()
        pool = None if champion is None else self._gather(champion)
        if champion is None or pool is None or not pool.new.any():
            return
        looked = self._looked_at(champion, pool)
        if looked is None:
            if self._rolled_back(champion, pool):
                return
            looked = self._ask(champion, pool)
        elif self.diary.last("decided", after=looked.id) and not self._scheduled(champion):
            return
        decided = self.diary.last("decided", after=self._promoted_at(champion))
        trigger = due(
            self.spec.loop,
            notices=self._unanswered(champion),
            worse=looked.data["worse"],
            num_labels=pool.labels_since,
            since_seconds=self._since(champion),
            unconfirmed=decided is not None and bool(decided.data["unconfirmed"]),
        )
        if trigger is None:
            return
        cut = cut_rows(
            pool.digests, new=pool.new, labelled=pool.labelled, used=pool.used,
            settings=self.spec.loop, seconds=pool.seconds,
        )  # fmt: skip
        if isinstance(cut, TooFew):
            self.diary.tell_news(
                "waiting", f"{trigger.sentence} Nothing is trained yet: there are {cut.sentence}",
                file="",
            )  # fmt: skip
            return
        self._say_news()
        attempt = begin(self.project, self.diary, champion, pool, cut, trigger)
        self._say_news()
        self._decider.finish(attempt)

    def _champion(self) -> Release | None:
        """The release that serves; where there is none, the line's first is made and promoted."""
        name = self.diary.name
        try:
            champion = self.project.release(self.project.aliases.get(name, CHAMPION))
        except NotFoundError:
            if waits := self._arrivals.unfinished():
                self.diary.tell_news("waiting", f"The first run waits: {waits[0]}", file="")
                return None
            outcome = run_line(self.project, self.spec, self.line.folder, self.reporter)
            champion = self.project.release(outcome.release)
            if champion.name != name:
                raise SettingsError(
                    [
                        f"The line is called {name!r}, but the run of these very rows and settings "
                        f"was made under the name {champion.name!r}. Say `name: {champion.name}` "
                        "in the settings to go on with that line."
                    ]
                ) from None
            self.project.promote(champion.id)
        check_settings(self.spec, champion)
        return champion

    def _gather(self, champion: Release) -> Pool | None:
        present = self._arrivals.look(champion)
        self._say_news()
        answered = answered_rows(self.project, champion, self._labels)
        for remark in answered.remarks:
            self.diary.tell_news("waiting", remark, file="")
        pieces = [self._arrivals.frame(arrival) for arrival in present]
        pieces += [] if answered.rows.is_empty() else [answered.rows]
        return gather(self.project, self.diary, champion, pieces) if pieces else None

    def _looked_at(self, champion: Release, pool: Pool) -> Entry | None:
        """The look at these very rows, where there was one.

        A controller that died between its look and what follows from it is followed by one that
        takes up the look.
        """
        last = self.diary.last("looked", after=self._promoted_at(champion))
        counts = (int(pool.new.sum()), pool.fresh_labels)
        same = last is not None and (last.data["rows"], last.data["labels"]) == counts
        return last if same else None

    def _scheduled(self, champion: Release) -> bool:
        every, since = self.spec.loop.every, self._since(champion)
        return every is not None and since is not None and since >= every

    def _unanswered(self, champion: Release) -> list[Notice]:
        """Alarms that no attempt has answered yet."""
        decided = self.diary.last("decided")
        after = max(self._promoted_at(champion), 0 if decided is None else decided.id)
        return [
            Notice(**alarm)
            for entry in self.diary.entries("alarm", after=after)
            for alarm in entry.data["alarms"]
        ]

    def _ask(self, champion: Release, pool: Pool) -> Entry:
        """Ask the monitor, and whether labels show a worse champion; written down as one look."""
        run = run_of(self.project, champion.id)
        looked = self.diary.entries("looked", after=self._promoted_at(champion))
        bounds = [int(entry.data["rows"]) for entry in looked]
        notices = list(self._watch.look(run, pool.fresh, bounds))
        pages = [notice for notice in notices if notice.page]
        since = looked[-1].id if looked else self._promoted_at(champion)
        if notices and self.diary.last("alarm", after=since) is None:
            self.diary.tell(
                "alarm", _alarm_sentence(notices, len(pages)), pages=len(pages),
                alarms=[asdict(notice) for notice in notices],
            )  # fmt: skip
        labelled = pool.frame.filter(pool.new & pool.labelled)
        worse = None
        if labelled.height and self.spec.loop.performance:
            scored = run.scored()
            truth = run.outcomes(scored.rows).target
            values = None if has_classes(champion.task) else champion.task
            before = Rows.build(truth, scored.prediction, values=values)
            now = answers(champion, labelled.tail(NEW_LOSSES))
            worse = become_worse(
                losses(before),
                losses(now),
                spent(self.spec.loop.error, len(looked) + 1),
                LOSS_NAMES[champion.task],
            )
        told = [f"{counted(int(pool.new.sum()), 'new row')}, {labelled.height:,} of them labelled."]
        if worse is not None:
            told.append(worse)
        elif labelled.height and self.spec.loop.performance:
            few = labelled.height < FEWEST_LABELS
            told.append(
                "Too few labels to say whether the champion is still as good." if few
                else "The champion is as good as it was."
            )  # fmt: skip
        if pages:
            told.append(f"One page, of {counted(len(pages), 'alarm')}.")
        return self.diary.tell(
            "looked", " ".join(told),
            rows=int(pool.new.sum()), labels=labelled.height, worse=worse,
        )  # fmt: skip

    def _since(self, champion: Release) -> float | None:
        """Seconds since the last attempt or promotion; None when the clock has gone back."""
        if self.spec.loop.every is None:
            return None
        promoted = self._moves(champion)
        last = self.diary.last("decided")
        times = [move.time for move in promoted[-1:]] + ([last.time] if last else [])
        if not times:
            return None
        passed = self._clock.now() - datetime.fromisoformat(max(times)).timestamp()
        if passed < -JUMPED_SECONDS:
            self.diary.tell_news(
                "waiting", "The clock has gone back behind the last decision; the schedule waits "
                "until it has caught up.", file="",
            )  # fmt: skip
            return None
        return max(0.0, passed)

    def _moves(self, champion: Release) -> list[Move]:
        return [
            move
            for move in self.project.aliases.history(self.diary.name, CHAMPION)
            if move.release == champion.id
        ]

    def _promoted_at(self, champion: Release) -> int:
        moves = self._moves(champion)
        return moves[-1].event if moves else 0

    def _rolled_back(self, champion: Release, pool: Pool) -> bool:
        """Go back where labels show that the last promotion made things worse."""
        moves = self.project.aliases.history(self.diary.name, CHAMPION)
        before = previous(moves)
        if not self.spec.loop.rollback or before is None or moves[-1].action != "promote":
            return False
        rows = pool.frame.filter(pool.new & pool.labelled).tail(NEW_LOSSES)
        if rows.height < self.spec.loop.gate_rows // 2:
            return False
        older = self.project.release(before)
        metric = str(run_of(self.project, champion.id).metric)
        looks = len(self.diary.entries("looked", after=self._promoted_at(champion)))
        worse = surely_worse(
            Bout(answers(older, rows), answers(champion, rows)),
            metric,
            spent(self.spec.loop.error, looks + 1),
        )
        if worse is None:
            return False
        why = (
            f"{champion.id[:20]} is worse than {before[:20]} before it, by {worse[0]} "
            f"{estimate(worse[1].to_dict())} on {counted(rows.height, 'row')} that came since."
        )
        self.project.rollback(self.diary.name, why=why, after=moves[-1].event)
        self.diary.tell("rolled_back", rolled_back(why), release=champion.id, to=before)
        return True

    def _say_news(self) -> None:
        for entry in self.diary.timeline():
            if entry.id > self._told:
                self._told = entry.id
                self._tell(entry)


def check_settings(spec: Spec, champion: Release) -> None:
    """Refuse a line that the loop cannot renew, and settings without effect on it.

    Raises:
        SettingsError: every one of them.
    """
    if champion.task not in LOSS:
        raise SettingsError(
            [
                f"`loopline watch` renews models that predict a class or a number; the task of "
                f"this line is {champion.task}. Train it again with `loopline run`."
            ]
        )
    loop, columns = spec.loop, [column.name for column in champion.schema.columns]
    problems = [
        f"`loop.protect` names {name!r}, which is no column. {nearest(name, columns)}"
        for name in loop.protect
        if name not in columns
    ]
    if loop.origin is not None and loop.origin not in columns:
        problems.append(
            f"`loop.origin` names {loop.origin!r}, which is no column. "
            f"{nearest(loop.origin, columns)}"
        )
    if loop.window_days is not None and not any(
        champion.schema.named(name).type == "datetime" for name in champion.schema.with_role("time")
    ):
        problems.append(
            f"`loop.window: {loop.window}` needs a column of dates with `role: time`. "
            "Give one, or say the window in rows."
        )
    if problems:
        raise SettingsError(problems)


def _alarm_sentence(notices: Sequence[Notice], pages: int) -> str:
    """The weightiest alarm in full, the others by name."""
    more = [notice.what for notice in notices[1:]]
    named = f" Also: {', '.join(more[:6])}{' …' if len(more) > 6 else ''}." if more else ""
    return f"{notices[0].sentence}{named}" + ("" if pages else " Nobody is paged.")
