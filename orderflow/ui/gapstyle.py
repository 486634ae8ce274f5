"""The style of the quality page: light and dark, narrow and wide, and on paper.

The colours are Okabe and Ito's, which people who do not tell red from green can tell apart; height and hatching say the
same once more.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f6f8fa;--rule:#d8dee4;--live:#009e73;--syncing:#56b4e9;
--stale:#e69f00;--suspect:#d55e00;--empty:#7b3f9d;--closed:#1f2328;--hatch:#6e7781}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;--card:#161b22;--rule:#30363d;
--live:#2ab391;--empty:#cc79a7;--closed:#f0f6fc;--hatch:#9198a1}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:75rem;font:15px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{margin:0;font-size:1.6rem}h2{margin:0 0 .6rem;font-size:1.05rem}h3{margin:0;font-size:.9rem;font-weight:600;
overflow-wrap:anywhere}
p{margin:.2rem 0}header p,footer,.topic p,.cards p{color:var(--soft)}
.name{font-weight:600;overflow-wrap:anywhere}
section{margin:1.8rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.8rem}
.cards div,.trouble{padding:.8rem 1rem;border:1px solid var(--rule);border-radius:8px;background:var(--card)}
.cards h2{margin:0;font-size:.85rem;font-weight:600;color:var(--soft)}
.cards p{font-size:.85rem}.cards .big{margin:0;font-size:1.6rem;font-weight:650;color:var(--ink);white-space:nowrap}
.trouble{border-color:var(--suspect)}.trouble ul{margin:0;padding-left:1.2rem}.trouble li{overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:0 0 1rem;padding:0;list-style:none;font-size:.85rem}
.legend li{display:flex;align-items:center;gap:.4rem}
.topic{display:grid;grid-template-columns:1fr auto;gap:0 1rem;margin:.6rem 0;break-inside:avoid}
.topic p{font-size:.85rem;font-variant-numeric:tabular-nums}
.line{grid-column:1/-1;display:block;width:100%;height:24px;border-radius:3px;background:var(--card)}
.axis{display:flex;justify-content:space-between;font-size:.8rem;color:var(--soft);font-variant-numeric:tabular-nums}
.live{fill:var(--live)}.syncing{fill:var(--syncing)}.stale{fill:var(--stale)}.suspect{fill:var(--suspect)}
.empty{fill:var(--empty)}.closed{fill:var(--closed)}.unrecorded{fill:url(#hatch)}
.hatch{stroke:var(--hatch);stroke-width:1.6}.defs{position:absolute;width:0;height:0}
.bar{display:block}.bar path{fill:var(--suspect)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:left;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:600}.n{text-align:right}
footer{margin-top:2rem;font-size:.8rem}
.wrap{display:inline-block;min-width:8rem;white-space:normal;overflow-wrap:break-word}
@media (max-width:40rem){.bar{width:3rem}body{padding:1rem}.axis span:nth-child(even){display:none}
.cards{grid-template-columns:1fr 1fr}.cards .big{font-size:1.3rem}}
@media print{html{font-size:12px}body{max-width:none;padding:0;font-size:12px;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.scroll{overflow:visible}table{font-size:.8rem}th,td{padding-right:.6em}tr,.cards div{break-inside:avoid}}
"""
