"""The look of a page and the few lines that filter it; both are fixed, no data come near them."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --page: #fcfcfd; --card: #fff; --line: #e0e1e6;
  --loss: #b7ebc6; --loss-text: #0b3d1c; --masked: #6b7078; --special: #8145b5; --bar: #3e8ed0; --mark: #c62a2f;
  --warn: #ffe7b3; --warn-text: #5a3d00; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #a5a9b2; --page: #111214; --card: #18191b;
  --line: #303236; --loss: #1d5a35; --loss-text: #d7f7e1; --masked: #969ba5; --special: #cf9df5; --bar: #4f9fe3;
  --mark: #ff8b8f; --warn: #4d3800; --warn-text: #ffdf9e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem; max-width: 68rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .75rem; }
p { margin: .25rem 0; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .45rem .55rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
figcaption { font-size: .9rem; margin-bottom: .25rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg rect { fill: var(--bar); }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); }
svg .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .limit { fill: var(--mark); }
.bar { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  padding: .6rem 0; background: var(--page); border-bottom: 1px solid var(--line); margin-bottom: 1rem; }
.bar label { display: flex; gap: .4rem; align-items: center; font-size: .9rem; }
select { font: inherit; max-width: 14rem; padding: .2rem .4rem; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; }
.legend span { margin-right: .5rem; font-size: .85rem; white-space: nowrap; }
article { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 0 0 1rem; }
header { padding: .5rem .8rem; border-bottom: 1px solid var(--line); font-size: .85rem; overflow-wrap: anywhere; }
header b { margin-right: .5rem; }
h3 { font-size: .85rem; margin: 0; padding: .6rem .8rem 0; color: var(--soft); }
pre { margin: 0; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; unicode-bidi: plaintext;
  font: 14px/1.65 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
i, u, s, q { font-style: normal; text-decoration: none; border-radius: 2px; }
i { color: var(--masked); }
u { background: var(--loss); color: var(--loss-text); box-shadow: inset -1px 0 0 var(--card); }
q { quotes: none; color: var(--special); outline: 1px solid currentColor; outline-offset: -1px; padding: 0 .15em; }
q.loss { background: var(--loss); font-weight: 700; }
s { opacity: .45; user-select: none; }
pre :hover { outline: 2px solid var(--bar); }
pre s:hover { outline: none; }
.gap { display: block; margin: .5rem 0; padding: .3rem; text-align: center; color: var(--soft);
  border: 1px dashed var(--line); font-family: system-ui, sans-serif; font-size: .85rem; }
.tag { display: inline-block; padding: 0 .45rem; margin-left: .4rem; border-radius: 999px; background: var(--warn);
  color: var(--warn-text); font-size: .8rem; }
ul { margin: 0; padding: .6rem .8rem .6rem 2rem; font-size: .9rem; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
"""

SCRIPT = """
const source = document.getElementById('source'), problem = document.getElementById('problem');
const count = document.getElementById('count');
function filter() {
  let samples = 0;
  for (const item of document.querySelectorAll('[data-source]')) {
    const gates = item.dataset.gates.split(' ');
    const fits = (source.value === '' || item.dataset.source === source.value) && (problem.value === ''
      || (problem.value === 'any' ? item.dataset.gates !== '' : gates.includes(problem.value)));
    item.hidden = !fits;
    if (fits && item.matches('article.sample')) samples += 1;
  }
  count.textContent = samples + (samples === 1 ? ' sample' : ' samples');
}
source.addEventListener('change', filter);
problem.addEventListener('change', filter);
filter();
"""
