"""The report's style sheet: one column at 390 px, two where there is room, plain on paper."""

STYLE_SHEET = """
:root { --ink: #1b1f24; --soft: #565d66; --line: #ccd2d9; --wash: #f4f6f8; --blue: #005a8e; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-top: .6rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { max-width: 46rem; overflow-wrap: anywhere; }
.subtitle, .note, figcaption, caption { color: var(--soft); }
.note { font-size: .92rem; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr));
  gap: .8rem; margin: 1rem 0; padding: 0; }
.headline div { border: 1px solid var(--line); border-top: 4px solid var(--blue);
  border-radius: 4px; padding: .6rem .8rem; background: var(--wash); }
.headline dt { font-weight: 600; }
.headline dd { margin: 0; font-size: .9rem; color: var(--soft); }
.headline dd.value { font-size: 1.7rem; line-height: 1.3; color: var(--ink);
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0 .4rem; caption-side: top;
  max-width: min(46rem, calc(100vw - 2rem)); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
tbody th { font-weight: 500; min-width: min(9rem, 20vw); }
.scroll td:not(.number) { min-width: min(8rem, 20vw); }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .92rem; margin-top: .3rem; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr));
  gap: .5rem 1.5rem; align-items: start; }
.figures.wide { grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
section > ul { max-width: 46rem; }
.interval { display: block; font-size: .88em; color: var(--soft); white-space: nowrap; }
tr.group th, tr.group td { font-weight: 600; border-top: 1px solid var(--soft); }
.grouped tbody tr:not(.group) th { padding-left: 1.6rem; }
sup { line-height: 0; font-size: .72em; margin-left: .15em; }
.notes { list-style: none; margin: -.4rem 0 1.2rem; padding: 0; max-width: 46rem;
  font-size: .88rem; color: var(--soft); }
.notes li { margin: .15rem 0; overflow-wrap: anywhere; }
.notes sup { margin: 0 .1em 0 0; }
.warnings { border: 2px solid #b35a00; border-left-width: 8px; border-radius: 4px; max-width: 46rem;
  margin: 1.2rem 0; padding: .2rem 1rem .4rem; background: #fff8ee; overflow-wrap: anywhere; }
.warnings h3 { margin: .5rem 0 .2rem; }
.warnings ul { margin: .2rem 0 .4rem; padding-left: 1.1rem; }
.contents { border: 1px solid var(--line); border-radius: 4px; padding: .4rem 1rem .6rem;
  margin: 1rem 0; }
.contents h2 { border: 0; margin: 0 0 .2rem; padding: 0; font-size: 1rem; }
.contents ol { columns: 15rem; column-gap: 2rem; margin: 0; padding-left: 1.5rem; }
a { color: var(--blue); }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
main:focus { outline: none; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; display: inline-block; padding: .3rem .6rem; }
code { font-size: .92em; overflow-wrap: anywhere; }
.flow { list-style: none; margin: 1rem 0; padding: 0; max-width: 46rem; }
.flow > li { position: relative; margin: 0 0 1.6rem; }
.flow > li:not(:last-child)::after { content: ""; position: absolute; left: 1.4rem; top: 100%;
  height: 1.6rem; border-left: 2px solid var(--soft); }
.step { border: 2px solid var(--soft); border-radius: 4px; padding: .5rem .8rem; background: #fff; }
.step.out { border: 1px dashed var(--soft); background: var(--wash); margin-left: 3rem; }
.step ul { margin: .2rem 0 0; padding-left: 1.2rem; }
.step strong { display: block; }
.parts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; }
.settings { columns: 16rem; column-gap: 2rem; font-size: .9rem; padding: 0; margin: .5rem 0; }
.settings div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid;
  border-bottom: 1px solid var(--line); padding: .15rem 0; }
.settings dt { color: var(--soft); }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); font-size: .88rem;
  color: var(--soft); }
.checklist { width: 100%; margin: 1rem 0; table-layout: fixed; overflow-wrap: anywhere; }
.checklist th:first-child { width: 4rem; }
.checklist th:nth-child(2) { width: 34%; }
.checklist .group td { background: var(--wash); }
.card { max-width: 60rem; margin: .4rem 0 1rem; overflow-wrap: anywhere; display: grid;
  grid-template-columns: 11rem minmax(0, 1fr); gap: .5rem 1rem; }
.card dt { font-weight: 600; }
.card dd { margin: 0; }
.blank { display: block; padding-bottom: 1.5rem; color: var(--soft);
  border-bottom: 1px dotted var(--ink); }
@media (max-width: 30rem) {
  .card { display: block; }
  .checklist th:first-child { width: 3rem; }
  .card dd { margin-bottom: .6rem; }
  th, td { padding: .25rem .35rem; }
  table { font-size: .88rem; }
  .scroll td:not(.number) { min-width: 10rem; }
  .scroll tbody th:first-child { position: sticky; left: 0; max-width: 8.5rem; background: #fff; }
}
@page { margin: 15mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3, caption { break-after: avoid; }
  .headline { grid-template-columns: repeat(4, 1fr); }
  .figures, .figures.wide { grid-template-columns: 1fr 1fr; }
  section > figure { width: 95mm; }
  .flow > li { margin-bottom: 1rem; }
  .flow > li:not(:last-child)::after { height: 1rem; }
  figure, .headline, .step, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .headline div, .step.out, .warnings { background: none; }
  .warnings { break-inside: avoid; }
  .skip { display: none; }
  .contents a { color: inherit; text-decoration: none; }
  table { font-size: 8.5pt; }
  th, td { padding: .15rem .4rem; }
  thead { display: table-header-group; break-after: avoid; }
  .scroll tbody tr:first-child { break-before: avoid; }
  .notes, figcaption { font-size: 8pt; }
  .notes { margin-top: -.2rem; }
}
"""
