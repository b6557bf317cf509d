"""Answering rows from an exported folder, with numpy and the model's own library alone.

`loopline export RELEASE --to folder -o DIR` writes the folder; then, where it is served,

    pip install --no-deps loopline && pip install numpy lightgbm

    from loopline.runtime import load
    model = load("DIR")
    model.predict_one({"age": 41, "job": "clerk"})

gives what `Release.predict_one` gives, to the bit for trees, without polars, pydantic, SQLAlchemy
or a store. The code is that of the release's own way with single rows, so the two cannot drift
apart; a value that only a table's machinery could read is refused, never guessed.
"""

from loopline.runtime.model import Runtime, load

__all__ = ["Runtime", "load"]
