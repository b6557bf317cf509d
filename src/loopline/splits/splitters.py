"""Splitters by the name of their method."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from loopline.splits.base import Splitter
from loopline.splits.group import GroupSplitter, GroupStratifiedSplitter
from loopline.splits.group_time import GroupTimeSplitter
from loopline.splits.predefined import PredefinedSplitter
from loopline.splits.random import RandomSplitter
from loopline.splits.stratified import StratifiedSplitter
from loopline.splits.time import TimeSplitter

SPLITTERS: Mapping[str, Splitter] = MappingProxyType(
    {
        "random": RandomSplitter(),
        "stratified": StratifiedSplitter(),
        "group": GroupSplitter(),
        "group_stratified": GroupStratifiedSplitter(),
        "time": TimeSplitter(),
        "group_time": GroupTimeSplitter(),
        "predefined": PredefinedSplitter(),
    }
)
