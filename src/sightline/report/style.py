"""The look of the page: light or dark as the reader's machine is set, from 390 to 1280 pixels."""

CSS = """
:root { --paper: #fff; --ink: #1c2127; --soft: #5b6570; --line: #dfe3e8; --panel: #f5f7f9;
  --accent: #1f6feb; --good: #1a7f4b; --bad: #d1242f; --second: #b35900; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e3e8ee; --soft: #9aa5b1;
  --line: #303842; --panel: #1c2229; --accent: #6cb0ff; --good: #4fc78a; --bad: #ff7b72;
  --second: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); color-scheme: light dark;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 1.2rem; margin: 44px 0 6px; }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 6px 0; max-width: 75ch; overflow-wrap: anywhere; }
.soft, figcaption, .about, th, .side { color: var(--soft); }
.about, figcaption, .note { font-size: 0.875rem; }
.about { overflow-wrap: anywhere; max-width: none; }
.about b { color: var(--ink); font-weight: 600; }
.first { border-left: 5px solid var(--bad); background: var(--panel); border-radius: 6px;
  padding: 12px 18px; margin: 20px 0; font-size: 1.06rem; }
.first p { max-width: none; }
.first strong { color: var(--bad); }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 8px;
  margin: 16px 0; }
.numbers div { background: var(--panel); border-radius: 6px; padding: 8px 10px; }
.numbers b { display: block; font-size: 1.3rem; line-height: 1.2; }
.numbers i, .numbers span { font-size: 0.8rem; line-height: 1.25; color: var(--soft); }
.numbers i { font-style: normal; font-weight: 600; } .numbers span { display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.925rem; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 500; font-size: 0.825rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { color: var(--ink); font-size: inherit; }
tr.all td { font-weight: 600; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 7px; }
.kinds { width: 100%; max-width: 860px; }
.kinds td:first-child { white-space: normal; min-width: 130px; max-width: 300px; }
.kinds th { white-space: normal; }
.kinds small { display: block; color: var(--soft); line-height: 1.3; }
.kinds .cost { width: 34%; min-width: 140px; text-align: left; }
.meter { display: inline-block; height: 15px; background: var(--bad); border-radius: 2px;
  vertical-align: -2px; margin-right: 7px; min-width: 1px; }
.cells td { text-align: center; min-width: 52px; border: 2px solid var(--paper); }
.cells th { text-align: center; border: 0; }
.cells th:first-child { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
.cells .good { background: color-mix(in srgb, var(--good) var(--share), var(--panel)); }
.cells .bad { background: color-mix(in srgb, var(--bad) var(--share), var(--panel)); }
.cells .none { color: var(--soft); background: var(--panel); }
figure { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 18px;
  margin: 12px 0; }
.charts figcaption { overflow-wrap: anywhere; }
.chart { width: 100%; height: auto; max-width: 420px; display: block; }
.chart text { fill: var(--soft); font-size: 9.5px; }
.chart .tiny { font-size: 6.5px; }
.chart .name { font-size: 10px; }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.line.half { stroke: var(--accent); } .line.tight { stroke: var(--second); }
.line.mean { stroke: var(--soft); stroke-dasharray: 4 3; }
.point { fill: var(--paper); stroke: var(--accent); stroke-width: 2.5; }
.reliability { max-width: 330px; }
.bar { fill: var(--accent); } .count { fill: var(--soft); } .hover { fill: transparent; }
.ideal { stroke: var(--ink); stroke-dasharray: 5 4; }
.key { display: inline-block; width: 22px; border-top: 3px solid; vertical-align: 4px;
  margin: 0 6px 0 14px; }
.key.half { border-color: var(--accent); margin-left: 0; }
.key.tight { border-color: var(--second); }
.key.mean { border-color: var(--soft); border-top-style: dashed; }
.cuts { display: grid; align-items: start; gap: 14px; margin: 12px 0;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.cuts .box.wrong, .cuts .box.missed { stroke-width: 2.5; }
.cuts figcaption { font-size: 0.8rem; line-height: 1.3; overflow-wrap: anywhere; }
.cuts b { color: var(--ink); }
.photo { display: block; width: 100%; height: auto; background: var(--panel); border-radius: 4px; }
.beside { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.beside span { font-size: 0.8rem; color: var(--soft); }
.pair { margin: 16px 0 30px; }
.pair figcaption b { color: var(--ink); }
.box { fill: transparent; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.box.wrong, .box.missed { stroke: #ff2d2d; stroke-width: 3.5; }
.box.missed { stroke-dasharray: 8 5; }
.box.meant { stroke: #ff2d2d; stroke-width: 2; stroke-dasharray: 2 4; }
.box.ignored { stroke: #ddd; stroke-dasharray: 2 4; }
.photo text { fill: #fff; stroke: #b00010; stroke-width: 0.28em; paint-order: stroke;
  stroke-linejoin: round; font-weight: 600; }
details { margin: 12px 0; } summary { cursor: pointer; color: var(--accent); }
@media (max-width: 640px) { main { padding: 16px 14px 48px; }
  .beside { grid-template-columns: 1fr; }
  .charts { grid-template-columns: 1fr 1fr; gap: 10px; } .charts .chart text { font-size: 12.5px; }
  .charts figcaption { font-size: 0.8rem; line-height: 1.3; }
  .first { padding: 10px 14px; font-size: 1rem; } .kinds .cost { min-width: 108px; width: 40%; }
  .kinds .rest { display: none; } th, td { padding: 5px 6px; }
  .kinds td:first-child { min-width: 110px; }
  .cuts { grid-template-columns: repeat(auto-fill, minmax(105px, 1fr)); } }
"""
