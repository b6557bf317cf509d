"""What a column's name says: words for ids, entities, weights and times."""

from __future__ import annotations

import re


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ID_WORDS = _listed(
    """
    id ids uuid guid key pk index idx rowid rownum instant identifier
    """
)
_ID_PARTS = _listed(
    """
    id ids nr no number num code key uuid hash # name
    """
)
_ENTITIES = _listed(
    """
    subject patient customer client user household family session device machine person member
    account student participant respondent employee driver visitor donor animal site
    """
)
WEIGHT_NAMES = _listed(
    """
    sampleweight sampleweights sampwt survweight surveyweight surveyweights surveywt fnlwgt
    finalwgt finalweight instanceweight caseweight caseweights rowweight samplingweight
    designweight perwt personweight expansionfactor
    """
)
TIME_NAMES = _listed(
    """
    date datetime timestamp time ts day dteday month epoch unixtime createdat updatedat
    eventtime eventdate orderdate transactiondate purchasedate recordedat observedat measuredat
    invoicedate saledate datetimeutc timestamputc localtime week year period
    """
)
NOT_EVENT_TIME = re.compile(r"birth|dob|born|expir|due|deadline|valid|until", re.IGNORECASE)


def _words(name: str) -> list[str]:
    """The words of a column name: `customerID` and `customer_id` both give customer, id."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    return re.findall(r"[a-z]+|[0-9]+|#", spaced.lower())


def is_time_name(name: str) -> bool:
    """Whether the name says when something happened."""
    words = _words(name)
    return squeeze(name) in TIME_NAMES or words[-1:] in (["time"], ["timestamp"], ["date"])


def squeeze(name: str) -> str:
    """The letters of a name in lower case, nothing else."""
    return re.sub(r"[^a-z]", "", name.lower())


def is_id_name(name: str) -> bool:
    """Whether the name says that its values name single rows."""
    words = _words(name)
    return bool(words) and (words[-1] in _ID_WORDS or words[0] in {"id", "index"} or "#" in words)


def entity_name(name: str) -> str | None:
    """`"id"` for names such as `patient_id`, `"word"` for a bare `patient`, else None."""
    words = _words(name)
    entity = [word for word in words if word in _ENTITIES]
    rest = [word for word in words if word not in _ENTITIES]
    if not entity:
        joined = squeeze(name)
        for word in sorted(_ENTITIES):
            if joined in (f"{word}id", f"{word}no", f"{word}key"):
                return "id"
        return None
    if not rest:
        return "word"
    return "id" if all(word in _ID_PARTS for word in rest) else None
