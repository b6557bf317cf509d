"""The parts that an HTML report is put together from; every text is escaped here."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

from loopline.line.charts import Figure


def escape(text: object) -> str:
    """Text made safe for HTML."""
    return html.escape(str(text), quote=True)


def prose(text: object) -> str:
    """Text made safe for HTML, with `names` in backticks set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def block(title: str, content: str) -> str:
    """A titled section."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{prose(sentence)}</li>" for sentence in sentences) + "</ul>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls sideways on a narrow screen."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td>{prose(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    inner = f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="wide"><table>{inner}</table></div>'


def columns_of(parts: Sequence[str]) -> str:
    """Parts side by side where there is room."""
    return '<div class="columns">' + "".join(part for part in parts if part) + "</div>"


def chart_place(figure: Figure) -> str:
    """Where the page's script draws a chart, with its caption."""
    return (
        f'<figure><div class="chart" id="{figure.name}" role="img" '
        f'aria-label="{escape(figure.caption)}"></div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def page(title: str, body: str, figures: Sequence[Figure]) -> str:
    """The whole file: style, body, the chart script and the charts' data."""
    script = ""
    if figures:
        from plotly.offline import get_plotlyjs

        data = json.dumps([figure.to_dict() for figure in figures], ensure_ascii=False)
        safe = data.replace("<", "\\u003c")  # a name must not end or open a script element
        script = (
            f"<script>{get_plotlyjs()}</script>"
            f'<script type="application/json" id="figures">{safe}</script>'
            f"<script>{_DRAW}</script>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main>{script}</body></html>"
    )


_STYLE = """
:root{--ink:#1b1f24;--soft:#5b6570;--line:#d9dee3;--paper:#fff;--accent:#1f6feb}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa4af;--line:#353b42;
--paper:#15181b;--accent:#6ea8ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
header{border-bottom:1px solid var(--line);padding-bottom:1rem}
h1{font-size:2rem;line-height:1.2;margin:.1rem 0 .5rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem}
.kind{color:var(--soft);margin:0}
.score{font-size:1.2rem;margin:.4rem 0}
.score b{font-size:2.2rem;color:var(--accent);margin-right:.2rem}
.score span{color:var(--soft);font-size:1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th{text-align:left;color:var(--soft);font-weight:600}
th,td{border-bottom:1px solid var(--line);padding:.35rem .8rem .35rem 0;vertical-align:top}
td{overflow-wrap:break-word}
figure{margin:1rem 0;min-width:0}
figcaption{color:var(--soft);font-size:.9rem}
.chart{width:100%}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
code{font-size:.9em;overflow-wrap:anywhere}
pre{overflow-x:auto;font-size:.85rem;border:1px solid var(--line);padding:.8rem;border-radius:.3rem}
summary{cursor:pointer;margin:.8rem 0;color:var(--accent)}
@media print{main{max-width:none}figure,tr{break-inside:avoid}details{display:none}
.columns{grid-template-columns:1fr 1fr}body{font-size:11pt}}
"""

_DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {
  const ink = dark.matches ? "#e6e9ec" : "#1b1f24";
  const line = dark.matches ? "#353b42" : "#d9dee3";
  for (const figure of figures) {
    const layout = Object.assign({
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: ink, family: "system-ui, sans-serif", size: 12},
      margin: {l: 56, r: 12, t: 12, b: 44}, hovermode: "closest",
      legend: {orientation: "h", y: 1.12}, height: 340
    }, figure.layout);
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = Object.assign(
        {gridcolor: line, zerolinecolor: line, automargin: true}, layout[axis]);
    }
    Plotly.react(figure.name, figure.data, layout,
      {responsive: true, displaylogo: false, displayModeBar: false});
  }
}
draw();
dark.addEventListener("change", draw);
"""
