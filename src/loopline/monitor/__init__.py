"""Watching a model: has the world moved, does it matter, and how sure is that?

`Watcher.learn` remembers a `Reference`, `Watcher.check` judges one `Window` after another. What it
says are `Alarm`s, and the share of them that pages a person keeps a stated budget.
"""
