"""How an exported page looks; on screen, in the dark and on paper."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #646a73; --page: #f4f4f1; --card: #fff;
  --line: #e1e1dc; --asked: #eef3fb; --good: #1a7f4b; --bad: #b3261e; --wait: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --soft: #9a9fa7; --page: #17181a;
  --card: #202225; --line: #34373c; --asked: #263042; --good: #5cc98f; --bad: #ff8a80;
  --wait: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.45rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
header p, footer p { color: var(--soft); margin: .1rem 0; overflow-wrap: anywhere; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  margin: 1.4rem 0; overflow: hidden; }
h2 { display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: baseline; font-size: .95rem;
  margin: 0; padding: .8rem 1.1rem; border-bottom: 1px solid var(--line); }
h2 .n { font-weight: 700; } h2 .at, h2 .model { font-weight: 400; color: var(--soft); }
h2 .end { margin-left: auto; }
.badge { font-size: .78rem; font-weight: 600; border: 1px solid currentColor; border-radius: 99px;
  padding: .05rem .6rem; }
.allow, .delivered { color: var(--good); } .deny, .refused, .failed { color: var(--bad); }
.hold, .cancelled, .interrupted, .undecided, .running { color: var(--wait); }
section { padding: .8rem 1.1rem; } section + section { border-top: 1px solid var(--line); }
.asked { background: var(--asked); }
h3 { font-size: .78rem; font-weight: 600; color: var(--soft); margin: 0 0 .3rem;
  overflow-wrap: anywhere; }
section > * + h3, section > details + pre { margin-top: .9rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: inherit;
  unicode-bidi: plaintext; }
pre.code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre.code, .folded { max-height: 34rem; overflow: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0;
  font-size: .86rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: .3rem; } summary { cursor: pointer; color: var(--soft); font-size: .86rem; }
.bar { height: 6px; border-radius: 3px; margin: .45rem 0 .1rem; width: 100%;
  background: var(--line); }
.hidden { color: var(--bad); font: 12px ui-monospace, monospace; border: 1px dotted;
  border-radius: 3px; padding: 0 2px; }
footer { padding-bottom: 3rem; font-size: .86rem; }
@media print { body { background: #fff; } article { break-inside: avoid-page; }
  pre.code, .folded { max-height: none; } }
"""
