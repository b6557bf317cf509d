"""Put the kept results of `planted_leaks.py` and `real_audit.py` into `docs/audit.md`.

Each table of the page stands between two comments, `<!-- name -->` and `<!-- /name -->`.

    python benchmarks/audit_page.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import planted_leaks
import real_audit

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/audit.md"
RESULTS = ROOT / "benchmarks/results"


def tables() -> dict[str, list[str]]:
    """The lines of each table, by its name on the page."""
    planted = planted_leaks.report(json.loads((RESULTS / "planted_leaks.json").read_text()))
    real = json.loads((RESULTS / "real_audit.json").read_text())
    claims = [real_audit.Claim(**each) for each in real["claims"]]
    said = real_audit.report(claims, real["cost"])
    practice = next(k for k, line in enumerate(planted) if line.startswith("| number |"))
    cost = next(k for k, line in enumerate(said) if line.startswith("| rows × "))
    return {
        "practice": planted[practice:],
        "kinds": planted_leaks.kinds(),
        "planted": planted[:practice],
        "real": said[:cost],
        "cost": said[cost:],
    }


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables().items():
        opened, closed = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = "\n".join([opened, "\n".join(lines).strip(), closed])
        whole = re.compile(f"{re.escape(opened)}.*?{re.escape(closed)}", flags=re.S)
        page, number = whole.subn(text.replace("\\", r"\\"), page)
        if number != 1:
            raise SystemExit(f"{PAGE.name} must hold {opened} … {closed} once.")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
