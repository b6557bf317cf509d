"""Which language a text is in, by its script and, in the Latin script, by its commonest words.

Made to tell a text in the wrong language from its neighbours, not to name every language: it gives
none where it is not sure. The words are the commonest of each language, 20 or so; a text needs some
of them, and clearly more than of any other language.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

UNKNOWN = ""
LATIN = "Latin"
SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi",
    "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Tibetan",
    "Myanmar", "Georgian", "Armenian", "Ethiopic", "Khmer", "Mongolian", "Hangul", "Hiragana",
    "Katakana", "Han",
)  # fmt: skip
JAPANESE = ("Hiragana", "Katakana")
SCRIPT_SHARE = 0.6
FEWEST_LETTERS = 8
BLOCK_ROWS = 50_000
WORDS_READ = 80
FEWEST_HITS = 3
HIT_SHARE = 0.15
LEAD = 1.8
"""How many times the runner-up's hits the best language must have."""
WORDS = {
    "English": (
        "the of and to in is that it was for on are with as his they be at this have from or "
        "had by not but what all were when your can said there you he she i"
    ),
    "German": (
        "der die das und ist nicht ein eine zu den mit auf für von dem sich auch es an werden "
        "aus er hat dass sie nach wird bei einer um am sind noch wie ich"
    ),
    "French": (
        "le la les de des et est un une que qui dans pour pas sur au il elle ce par plus avec "
        "sont du ne se nous vous mais je cette aux ont été"
    ),
    "Spanish": (
        "el la los las de que y en un una es por con no para su al lo como más pero sus le ya "
        "este porque esta entre cuando muy sin sobre está del"
    ),
    "Portuguese": (
        "o a os as de que e do da em um uma para é com não no na por mais dos como mas foi ao "
        "ele das tem à seu sua ou ser quando muito está também"
    ),
    "Italian": (
        "il lo la gli le di che e è un una per non in con del della si da sono come anche più "
        "ma nel al dei alla questo ha delle mi io"
    ),
    "Dutch": (
        "de het een en van ik te dat die in is niet zijn op aan met als voor er maar om hem "
        "dan zou of wat mijn men dit zo door over ze zich bij ook"
    ),
    "Swedish": (
        "och det att i en jag hon som han på den med var sig för så till är men ett om hade "
        "de av icke mig du henne då sin nu har inte hans"
    ),
    "Danish": (
        "og i jeg det at en den til er som på de med han af for ikke der var mig sig men et "
        "har om vi min havde ham hun nu over da fra"
    ),
    "Norwegian": (
        "og i jeg det at en et den til er som på de med han av ikke der så var meg seg men "
        "har om vi min hadde hun nå over da ved fra"
    ),
    "Finnish": (
        "ja on ei se että hän oli mutta joka kun niin myös ovat ole kuin mitä tai jos sen nyt "
        "vain hänen minä sitä olen tämä"
    ),
    "Polish": (
        "i w nie na się że z do to jest jak a po co tak za od ale przez czy jego o dla był "
        "tego tylko już może są być"
    ),
    "Czech": (
        "a se na je že v to s z do i o jako za ale po tak by jsem si ve od které jeho pro byl "
        "který nebo jsou"
    ),
    "Slovak": (
        "a sa na je že v to s z do aj o ako za ale po tak by som si vo od ktoré jeho pre bol "
        "ktorý alebo sú"
    ),
    "Hungarian": (
        "a az és hogy nem is egy ez de meg azt csak van mint már el még volt ha ki vagy én "
        "mert minden amikor"
    ),
    "Romanian": (
        "și în de la a nu o cu pe că să un din este ce mai care au pentru dar le sau lui fi "
        "era după al ale"
    ),
    "Turkish": (
        "ve bir bu da de için ile ben çok ne o gibi daha var ama mi sen kadar sonra her olan "
        "olarak değil ki"
    ),
    "Indonesian": (
        "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke karena ada "
        "oleh mereka kita bisa adalah"
    ),
    "Vietnamese": (
        "và của là có trong cho không được một người những với các này đã để khi từ đến về "
        "như nhưng cũng"
    ),
    "Tagalog": (
        "ang ng sa na mga ay at ko siya hindi ito si ka niya para kung may mo ako lang naman"
    ),
    "Swahili": (
        "na ya wa kwa ni katika za la kuwa hii au cha kama hiyo yake vya sana lakini pia hivyo"
    ),
    "Catalan": (
        "el la els les de que i en un una és per amb no al com més però del dels seva aquest "
        "va són també ha"
    ),
    "Croatian": (
        "i u je se na da su za od s a kao koji o što nije bi iz sam ili ne samo ali po biti"
    ),
    "Lithuanian": ("ir yra kad su į iš tai bet kaip buvo ne jo o ar dar tik savo apie už jis"),
    "Latvian": ("un ir ka ar no par uz bet kā tas viņš nav bija to vai arī pie tikai es kas"),
    "Estonian": ("ja on ei et see oli ta kui ka aga mis nii oma ning siis kes või seda mida"),
}
CONFUSED = (
    ("Danish", "Norwegian", "Swedish"),
    ("Czech", "Slovak"),
    ("Spanish", "Portuguese", "Catalan"),
)
"""Near languages: the better of them is taken without a lead over the others."""


def languages(texts: pl.Series) -> NDArray[np.str_]:
    """Language or script of each text; "" where it is not sure.

    Args:
        texts: strings without missing cells.

    >>> few = ["Das ist nicht der Hund, den wir mit ihr sahen.", "Привет, как дела?", "42"]
    >>> languages(pl.Series(few)).tolist()
    ['German', 'Cyrillic', '']
    """
    found = np.full(texts.len(), UNKNOWN, dtype="<U12")
    for start in range(0, texts.len(), BLOCK_ROWS):
        block = texts.slice(start, BLOCK_ROWS).str.slice(0, 1_000)
        part = _scripts(block)
        latin = np.flatnonzero(part == LATIN)
        part[latin] = _latin(block[latin])
        found[start : start + block.len()] = part
    return found


def _scripts(texts: pl.Series) -> NDArray[np.str_]:
    """The script of most letters of each text."""
    letters = texts.str.count_matches(r"\p{L}").to_numpy().astype(np.float64)
    found = np.full(texts.len(), UNKNOWN, dtype="<U12")
    known = letters >= FEWEST_LETTERS
    latin = texts.str.count_matches(r"\p{Latin}").to_numpy()
    found[known & (latin >= SCRIPT_SHARE * letters)] = LATIN
    rest = np.flatnonzero(known & (found == UNKNOWN))
    if not rest.size:
        return found
    others = texts[rest]
    counts = {s: others.str.count_matches(rf"\p{{{s}}}").to_numpy() for s in SCRIPTS[1:]}
    kana = sum(counts.pop(script) for script in JAPANESE)
    # Japanese mixes kana with Han; a tenth of kana tells it from Chinese.
    japanese = kana >= 0.1 * letters[rest]
    counts["Japanese"] = np.where(japanese, kana + counts["Han"], 0)
    counts["Han"] = np.where(japanese, 0, counts["Han"])
    names = np.array(list(counts))
    table = np.stack(list(counts.values()))
    best = table.argmax(axis=0)
    sure = table.max(axis=0) >= SCRIPT_SHARE * letters[rest]
    found[rest[sure]] = names[best[sure]]
    return found


@cache
def _word_table() -> pl.DataFrame:
    pairs = [(word, name) for name, words in WORDS.items() for word in sorted(set(words.split()))]
    return pl.DataFrame(pairs, schema=["word", "language"], orient="row")


def _latin(texts: pl.Series) -> NDArray[np.str_]:
    """The language whose common words a text has clearly most of; "" where none leads."""
    found = np.full(texts.len(), UNKNOWN, dtype="<U12")
    words = texts.str.to_lowercase().str.extract_all(r"\p{L}+").list.head(WORDS_READ)
    frame = pl.DataFrame({"row": np.arange(texts.len()), "word": words})
    sizes = words.list.len().to_numpy()
    hits = (
        frame.explode("word", empty_as_null=True)
        .join(_word_table(), on="word", how="inner")
        .group_by("row", "language")
        .len()
    )
    names = list(WORDS)
    table = np.zeros((texts.len(), len(names)))
    place = {name: number for number, name in enumerate(names)}
    columns = hits["language"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    table[hits["row"].to_numpy(), columns] = hits["len"].to_numpy()
    best = table.argmax(axis=1)
    top = table[np.arange(texts.len()), best] if texts.len() else np.zeros(0)
    rivals = table.copy()
    for number, name in enumerate(names):
        kin = [other for group in CONFUSED if name in group for other in group] or [name]
        for other in kin:
            rivals[best == number, place[other]] = 0.0
    second = rivals.max(axis=1) if texts.len() else np.zeros(0)
    sure = (top >= FEWEST_HITS) & (top >= HIT_SHARE * np.maximum(sizes, 1)) & (top >= LEAD * second)
    found[sure] = np.array(names)[best[sure]]
    return found
