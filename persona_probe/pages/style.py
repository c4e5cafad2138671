"""The style sheet and the script of the report. Constants only: nothing of a record ever gets in here."""

CSS = """
:root { color-scheme: light dark; --ink: #24292f; --soft: #57606a; --line: #d0d7de; --page: #ffffff;
  --card: #f6f8fa; --warn: #fff4d6; --edge: #b07d00; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root:not([data-theme]) { --ink: #e6e8eb; --soft: #a8b0ba; --line: #3a414b; --page: #14171b;
    --card: #1d2228; --warn: #3a2f10; --edge: #d9a520; --link: #7ab8ff; }
}
[data-theme="light"] { color-scheme: light; }
[data-theme="dark"] { color-scheme: dark; --ink: #e6e8eb; --soft: #a8b0ba; --line: #3a414b; --page: #14171b;
  --card: #1d2228; --warn: #3a2f10; --edge: #d9a520; --link: #7ab8ff; }
[data-talk] { font-size: 150%; }
[data-talk] body { font-size: 1rem; }
[data-talk] main { max-width: 1600px; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 80px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0.6em 0 0.3em; }
h2 { font-size: 1.25rem; line-height: 1.35; margin: 2.4em 0 0.5em; }
h3 { font-size: 1.05rem; line-height: 1.35; margin: 2.2em 0 0.2em; }
p, li { max-width: 85ch; }
.note, .banner { max-width: none; }
.summary { font-size: 1.15rem; }
.soft, figcaption, th small, .card small { color: var(--soft); }
.note, .banner { border-left: 4px solid var(--edge); background: var(--warn); padding: 10px 14px;
  border-radius: 4px; }
.banner { font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 20px 0; padding: 0; }
.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.card b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span, .card small { display: block; font-size: 0.9rem; line-height: 1.4; }
.card small { font-size: 0.8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px; border-bottom: 1px solid var(--line); }
thead th { border-bottom-width: 2px; }
tr.chosen > * { background: var(--card); font-weight: 600; }
.numbers td:nth-child(n + 3) { white-space: nowrap; }
.verdicts td:nth-child(3) { min-width: 20rem; }
.verdicts td:nth-child(7), .verdicts td:nth-child(8) { min-width: 14rem; }
.verdicts small { display: block; color: var(--soft); font-weight: 400; }
.numbers small { display: block; color: var(--soft); font-weight: 400; }
.facts th { width: 16rem; font-weight: 500; color: var(--soft); }
.facts td, pre { font-family: ui-monospace, "SF Mono", Consolas, monospace; font-size: 0.85rem;
  overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  white-space: pre-wrap; }
figure { margin: 0 0 1.5em; }
figcaption { font-size: 0.92rem; }
.plot { width: 100%; }
details { margin: 12px 0; }
summary, button { cursor: pointer; }
button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--soft);
  border-radius: 6px; padding: 6px 14px; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.replies { table-layout: fixed; }
.replies th, .replies td { width: 15rem; }
.reply { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; margin-bottom: 8px; }
.context { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px;
  margin: 6px 0; line-height: 1.7; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.source { color: var(--soft); font-size: 0.8rem; margin: 8px 0 0; }
.tokens { line-height: 2; }
.token { white-space: pre-wrap; border-radius: 3px; padding: 1px 0; unicode-bidi: isolate; }
.tokens .token { border: 1px solid var(--line); padding: 1px 5px; margin-right: 5px;
  font-family: ui-monospace, "SF Mono", Consolas, monospace; font-size: 0.85rem; }
.peak { font-weight: 700; text-decoration: underline; text-underline-offset: 3px; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 0 24px; }
.side > * { min-width: 0; }
.latent { border: 1px solid var(--line); border-radius: 8px; padding: 6px 14px; }
.latent h4 { margin: 1.4em 0 0.3em; }
.latent > summary b { margin-right: 1ch; }
a { color: var(--link); }
.veiled { filter: blur(6px); cursor: pointer; }
.veiled:focus, .show-text .veiled { filter: none; }
@media print { .veiled { filter: blur(6px); } button { display: none; } }
"""

# Draws each figure from its JSON island once it can be seen, in the page's own text colour; unfolds the part
# an address names; shows or hides blurred text.
SCRIPT = """
"use strict";
(() => {
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const settings = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d",
    "resetScale2d"]] };
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  // A plot inside a folded part has no width yet, so it is drawn when that part is opened.
  const draw = () => {
    for (const plot of plots) {
      if (drawn.has(plot) || plot.closest("details:not([open])")) continue;
      drawn.add(plot);
      const figure = JSON.parse(document.getElementById(plot.id + "-data").textContent);
      figure.layout.font = { ...figure.layout.font, color: ink() };
      Plotly.newPlot(plot, { ...figure, config: settings });
    }
  };
  draw();
  document.addEventListener("toggle", draw, true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of drawn) Plotly.relayout(plot, { "font.color": ink() });
  });
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();
  const button = document.getElementById("show-text");
  button?.addEventListener("click", () => {
    const shown = document.getElementById("replies").classList.toggle("show-text");
    button.setAttribute("aria-pressed", String(shown));
    button.textContent = shown ? "Hide text" : "Show text";
  });
})();
"""
