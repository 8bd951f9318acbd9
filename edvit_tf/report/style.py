# ruff: noqa: E501 (a style sheet, as it stands in the page)
"""The style sheet of the pages, and what every page begins with.

Colours are variables, so that dark mode and print need no second drawing.
"""

from html import escape

from edvit_tf.report.script import POLICY, SCRIPT

CSS = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59616b;--line:#d9dde2;--page:#fff;--band:#f4f6f8;--accent:#1f5fbf;
--floor:#a08a5c;--base:#7b8490;--single:#b8621b;--fused:#1f5fbf;--average:#2a8a80;--plain:#8a5aa0;--total:#7d7a1f;--equal:#a8404f;--copies:#0f8f5f;
--bad:#a4262c;--badband:#fdecea;--over:#fff}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#9aa4b0;--line:#343b44;--page:#14171b;
--band:#1c2127;--accent:#7fb0f5;--floor:#b9a577;--base:#8d97a4;--single:#e09a55;--fused:#6fa5f0;--average:#55bdb1;--plain:#c39bd6;
--total:#cfc75a;--equal:#f0919c;--copies:#4fd39b;--bad:#ff9a94;--badband:#3a1d1d;--over:#10131a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.6rem 1.2rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.6rem 0 .5rem;padding-top:.7rem;border-top:1px solid var(--line)}
h3{font-size:.95rem;margin:1.4rem 0 .3rem}
p,ul{max-width:46rem;margin:.5rem 0;overflow-wrap:anywhere}.soft,figcaption{color:var(--soft);font-size:.88rem}
.banner{background:var(--badband);border:2px solid var(--bad);color:var(--bad);padding:.7rem 1rem;font-weight:650;
margin:0 0 1.2rem;max-width:none}
.lead{font-size:1.12rem;font-weight:650;max-width:60rem;margin:1rem 0 .8rem}
.top{list-style:none;margin:0 0 1rem;padding:0;max-width:62rem;border-top:1px solid var(--line)}
.top li{display:grid;grid-template-columns:13rem 1fr;gap:.2rem 1.4rem;align-items:baseline;padding:.6rem 0 .6rem .9rem;
border-bottom:1px solid var(--line);border-left:5px solid var(--base)}
.top b{font-size:1.5rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.top small{display:block;font-size:.8rem;font-weight:600;color:var(--soft)}
.top .better{border-left-color:var(--copies)}.top .worse{border-left-color:var(--bad)}
summary{cursor:pointer}
.fleet{margin:.8rem 0}.cards{list-style:none;padding:0;margin:.4rem 0;max-width:none;display:grid;gap:.6rem;
grid-template-columns:repeat(auto-fill,minmax(min(13rem,100%),1fr))}
.cards li{background:var(--band);border-top:4px solid var(--fused);padding:.5rem .7rem .6rem;font-size:.86rem;min-width:0}
.cards b{font-weight:600}.cards small{color:var(--soft)}
.on{display:flex;flex-wrap:wrap;gap:.25rem;margin-bottom:.25rem}
.on span{border:1px solid var(--line);border-radius:3px;padding:0 .35rem;background:var(--page);overflow-wrap:anywhere}
.end{text-align:center;max-width:none;color:var(--soft);font-size:.88rem;margin:.2rem 0}
.view{display:flex;gap:.6rem;align-items:center;overflow-wrap:anywhere}.view span{min-width:0}
svg.seen{width:3.2rem;flex:none}svg.seen .fit{fill:var(--fused);fill-opacity:.16;stroke-width:1.6}
svg.strip{margin:.35rem 0}.strip .yes{fill:var(--fused)}.strip .no{fill:none;stroke:var(--line);stroke-width:1}
.mistakes{list-style:none;padding:0;max-width:none;display:grid;gap:1rem;
grid-template-columns:repeat(auto-fill,minmax(min(9.2rem,100%),1fr))}
.mistakes>li{font-size:.86rem;min-width:0;overflow-wrap:anywhere}.mistakes p{margin:.3rem 0}
.mistakes img{display:block;width:100%;max-width:12rem;aspect-ratio:1;object-fit:contain;
background:var(--band)}.mistakes img[src^="data:image/png"]{image-rendering:pixelated}
.mistakes audio{width:100%;max-width:16rem;height:2.2rem;margin-top:.3rem}.mistakes small{color:var(--soft)}
.mistakes ul{padding-left:1.1rem}.mistakes blockquote{margin:0;padding:.5rem;background:var(--band)}
.mistakes:has(blockquote){grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr))}
.paste{user-select:all;white-space:pre-wrap;overflow-wrap:anywhere}
details{margin:.5rem 0}details.part{border-top:1px solid var(--line);margin:0;padding:.1rem 0}
details.part>summary{padding:.55rem 0}
details.part>summary h2{display:inline;border:0;margin:0;padding:0;font-size:1.05rem}
summary:focus-visible,a:focus-visible,th button:focus-visible,.wide:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;white-space:pre;text-align:inherit}
th button:hover{color:var(--accent)}
th[aria-sort=descending] button::after{content:" \\2193"}th[aria-sort=ascending] button::after{content:" \\2191"}
nav{font-size:.88rem;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:1.2rem 0 0}
a{color:var(--accent)}
.wide{overflow-x:auto;margin:.7rem 0}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;line-height:1.35}
th,td{padding:.34rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{font-weight:600;color:var(--soft);vertical-align:bottom;white-space:pre}
.t{text-align:left}td.w{white-space:normal;min-width:13rem}
th:first-child,td:first-child{padding-left:0;position:sticky;left:0;background:var(--page)}
tr.strong td{font-weight:650}caption{text-align:left;color:var(--soft);font-size:.88rem;padding:0 0 .3rem}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr));gap:1rem 1.6rem;margin:1rem 0}
.large{grid-template-columns:repeat(auto-fill,minmax(min(22rem,100%),1fr))}.large svg{max-width:30rem}
.small{grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr))}
figure{margin:0;break-inside:avoid}figcaption{line-height:1.35}svg{display:block;width:100%;height:auto;max-width:26rem}
.small svg{max-width:20rem}svg text{font:11px system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:var(--ink)}
svg .dim{fill:var(--soft)}
svg .grid{stroke:var(--line);fill:none}svg .whisker{stroke:var(--ink);fill:none;stroke-width:1.4}
svg .cut{stroke:var(--soft);stroke-dasharray:3 3;fill:none}
svg .hollow{fill:var(--page);stroke:var(--fused);stroke-width:1.5}
svg .own{stroke:var(--average);fill:none;opacity:.8}
svg .fit{stroke:var(--fused);fill:none;stroke-width:2}
svg.matrix{width:auto;max-width:none}
pre{background:var(--band);padding:.8rem 1rem;overflow-x:auto;font:.85rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
@media(max-width:40rem){.top li{grid-template-columns:1fr}th:first-child,td:first-child{white-space:normal;min-width:7rem}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}.stack,.stack tbody{display:block}
.stack tr{display:grid;grid-template-columns:repeat(3,1fr);gap:.35rem .8rem;padding:.7rem 0;border-bottom:1px solid var(--line)}
.stack td,.stack td.w{display:block;position:static;padding:0;border:0;text-align:left;white-space:normal;min-width:0;overflow-wrap:anywhere}
.stack td:first-child,.stack td:nth-child(n+5){grid-column:1/-1}.stack td:first-child{font-weight:600}.stack small{font-weight:400}.stack td.none{display:none}
.stack td:not(:first-child)::before{content:attr(data-name);display:block;color:var(--soft);font-size:.78rem}}
@media print{body{font-size:11px}main{max-width:none;padding:0}nav{display:none}
.wide{overflow:visible}h2,h3{break-after:avoid}
th,td{padding:.2rem .35rem;white-space:normal}tr{break-inside:avoid}
.banner,pre,svg *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def page_head(title: str) -> str:
    """The document up to the first element of its body."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"""


def page_end() -> str:
    """The end of the document, with its script."""
    return f"</main><script>{SCRIPT}</script></body></html>\n"


# Marks that turn the order of the text after them: in a label they would make another one of it.
_TURNING = dict.fromkeys(
    (*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}"
)


def finished(html: str) -> str:
    """The page as it is written: no name in it changes how the text beside it reads."""
    return html.translate(_TURNING)
