"""The table of model families: a name from a settings file in, a `Family` out.

Nothing heavy is imported until a family is asked for.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from loopline.errors import SettingsError
from loopline.models.base import Family

_PLACES = {
    "baseline": ("loopline.models.baseline", "Baseline"),
    "linear": ("loopline.models.linear", "Linear"),
    "lightgbm": ("loopline.models.lightgbm", "LightGBM"),
    "xgboost": ("loopline.models.xgboost", "XGBoost"),
    "catboost": ("loopline.models.catboost", "CatBoost"),
    "forest": ("loopline.models.forest", "Forest"),
    "ngram": ("loopline.models.ngram", "Ngram"),
    "mlp": ("loopline.models.mlp", "MLP"),
    "text": ("loopline.models.text", "Text"),
    "image": ("loopline.models.image", "Image"),
    "clip": ("loopline.models.clip", "Clip"),
    "lm": ("loopline.models.lm", "LanguageModel"),
    "multimodal": ("loopline.models.multimodal", "Multimodal"),
}

_MADE = {"blend": ("loopline.models.blend", "BlendFamily")}
"""Families that settings cannot name: they are made of others."""

FAMILY_NAMES: tuple[str, ...] = tuple(_PLACES)
"""Every family, from simple to complex."""
CORE_FAMILIES: tuple[str, ...] = ("baseline", "linear", "lightgbm")
"""The families that race where the settings name none."""


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        SettingsError: there is none; the message names the nearest.

    >>> family("baseline").complexity
    0
    >>> family("ligthgbm")
    Traceback (most recent call last):
    ...
    loopline.errors.SettingsError: There is no model family "ligthgbm"; did you mean "lightgbm"?
    """
    places = {**_PLACES, **_MADE}
    if name not in places:
        close = get_close_matches(name.lower(), FAMILY_NAMES, n=1, cutoff=0.5)
        known = ", ".join(f'"{each}"' for each in FAMILY_NAMES)
        hint = f'did you mean "{close[0]}"?' if close else f"choose from {known}."
        raise SettingsError([f'There is no model family "{name}"; {hint}'])
    module, attribute = places[name]
    found: Family = getattr(import_module(module), attribute)()
    return found
