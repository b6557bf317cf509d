"""The tasks that can be watched, each with its member of the contract in `losses`."""

from __future__ import annotations

from collections.abc import Mapping

from loopline.data.schema import Task
from loopline.monitor.answer_losses import RankLosses, TextLosses
from loopline.monitor.class_losses import ClassLosses
from loopline.monitor.label_losses import LabelLosses
from loopline.monitor.losses import Losses
from loopline.monitor.number_losses import NumberLosses

WATCHED: Mapping[Task, type[Losses]] = {
    "binary": ClassLosses,
    "multiclass": ClassLosses,
    "multilabel": LabelLosses,
    "regression": NumberLosses,
    "language": TextLosses,
    "retrieval": RankLosses,
}
