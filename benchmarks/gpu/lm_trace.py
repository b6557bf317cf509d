"""What a checkpoint costs a run, and what the host and the card do in a step."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from loopline.engine.events import Event


def checkpoint_stall(work, layout, engine, wait, tiny):
    """Seconds that a save takes from training: what the steps around it last above the median."""

    class Steps(Event):
        name = "steps"

        def __init__(self):
            self.times, self.mark, self.saves = [], None, []

        def after_step(self, run):
            wait(run.layout.device)
            now = time.perf_counter()
            if self.mark is not None:
                self.times.append((run.state.step, now - self.mark))
            self.mark = now

        def saved(self, run):
            self.saves.append(run.state.step)

    every, count = (2, 3) if tiny else (25, 3)
    work = replace(work, warm=8 if not tiny else 1, steps=every * (count + 1))
    steps = Steps()
    with tempfile.TemporaryDirectory() as folder:
        engine(work, layout, folder=Path(folder), events=[steps], save_every=every)
        kept = sorted(Path(folder).glob("*/*"))
        size = sum(path.stat().st_size for path in kept if path.is_file())
    times = [(step, seconds) for step, seconds in steps.times if step > work.warm]
    usual = statistics.median(seconds for _, seconds in times)
    saves = [step for step in steps.saves if work.warm < step < times[-1][0]]
    stalls = []
    for save in saves:
        near = [seconds for step, seconds in times if save < step <= save + every]
        stalls.append(sum(seconds - usual for seconds in near))
    return {
        "seconds_a_step": usual,
        "saves_after_steps": saves,
        "stall_seconds_a_save": stalls,
        "slowest_step": max(seconds for _, seconds in times),
        "bytes_kept": size,
        "note": "a stall is what the steps from one save to the next last above the median step",
    }


def trace(work, layout, engine):
    """Synchronisations of steps, and what the profiler says of three of them."""
    cuda = layout.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    profiler = torch.profiler.profile(activities=activities, acc_events=True)
    begin, count = (12, 3) if cuda else (2, 2)

    class Watch(Event):
        name = "watch"

        def before_step(self, run):
            if cuda:
                torch.cuda.set_sync_debug_mode("warn" if 4 <= run.state.step < begin else "default")
            if run.state.step == begin:
                profiler.start()
            if run.state.step == begin + count:
                if cuda:
                    torch.cuda.synchronize()
                profiler.stop()

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        longer = replace(work, warm=1, steps=begin + count, block=10**6)
        try:
            engine(longer, layout, events=[Watch()])
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
    calls = [one for one in heard if "called a synchronizing" in str(one.message)]
    places = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in calls)
    places = Counter({place: n for place, n in places.items() if "__init__" not in place})
    return {
        "steps_listened_to": begin - 4 if cuda else 0,
        "synchronising_operations": sum(places.values()),
        "where": dict(places),
        **_profile(profiler, count, cuda),
    }


def _profile(profiler, count, cuda):
    events = profiler.events()
    waits = Counter(one.name for one in events if "Synchronize" in one.name)
    found = {"waits_in_the_trace": dict(waits), "steps_traced": count}
    if not cuda:
        return found
    kernels = [one for one in events if one.device_type == torch.autograd.DeviceType.CUDA]
    busy = Counter()
    for one in kernels:
        busy[one.name[:90]] += one.time_range.elapsed_us() / 1e3 / count
    if kernels:
        begin = min(one.time_range.start for one in kernels)
        end = max(one.time_range.end for one in kernels)
        found["card_busy_share"] = sum(busy.values()) * count * 1e3 / (end - begin)
    found["milliseconds_a_step_by_kernel"] = {
        name: round(value, 3) for name, value in busy.most_common(25)
    }
    return found
