// The data of the sheet, what is asked of it, and which nodules fit. No geometry is computed here:
// windows, cuts and outlines come from Python as numbers in pixels of the frame.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const form = find("controls"), sheet = find("sheet"), dialog = find("one");
const PER_WINDOW = 5; // left, top, width, height, flags
const CUT = 16;
const SIDES = [[1, "left"], [2, "top"], [4, "right"], [8, "bottom"]];
const OVERSCAN = 2; // rows kept above and below what is seen
const MOST_PRINTED = 600;
const collator = new Intl.Collator("en", { numeric: true });
const words = (text) => text.replaceAll("_", " ");
const number = (value) => value.toLocaleString("en");
data.entries.forEach((entry, place) => {
  entry.place = place;
  entry.text = `${entry.id}\n${entry.patient}`.toLowerCase();
});

// ---- what is asked for, kept in the address so that a view can be linked

const fields = [...form.elements].filter((field) => field.name);
const initial = new Map(fields.map((field) => [field.name, valueOf(field)]));
let asked = {};

function valueOf(field) {
  return field.type === "checkbox" ? String(field.checked) : field.value;
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    const value = given.get(field.name);
    if (value === null) continue;
    if (field.type === "checkbox") field.checked = value === "true";
    else if (field.type === "search" || [...field.options].some((o) => o.value === value))
      field.value = value;
  }
}

function ask() {
  asked = Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));
  const changed = fields.filter((field) => valueOf(field) !== initial.get(field.name));
  const address = new URLSearchParams(changed.map((field) => [field.name, valueOf(field)]));
  try {
    history.replaceState(null, "", `#${address}`);
  } catch { /* some browsers forbid this on files; the view is then not linkable */ }
}

// ---- windows, as Python gave them

function windowsOf(entry, margin = asked.margin) {
  const row = data.margins.indexOf(Number(margin)) * data.shapes.length;
  return data.shapes.map((shape, column) => {
    const start = (row + column) * PER_WINDOW;
    const [left, top, width, height, flags] = entry.windows.slice(start, start + PER_WINDOW);
    return { shape, left, top, width, height, flags, row: row / data.shapes.length, column };
  });
}

const chosen = (entry) =>
  windowsOf(entry).filter((cut) => asked.shape === "all" || cut.shape === asked.shape);
const cuts = (cut) => (cut.flags & CUT) !== 0;
const leaves = (cut) => SIDES.filter(([bit]) => cut.flags & bit).map(([, side]) => side);

function note(cut) {
  const out = leaves(cut);
  return [
    cuts(cut) ? "cuts the nodule" : "",
    out.length ? `leaves the frame at ${out.join(", ")}` : "",
  ].filter(Boolean).join("; ");
}

function notes(entry) {
  const all = chosen(entry);
  if (all.length === 1) return note(all[0]) && `Window ${note(all[0])}`;
  const said = [];
  for (const [holds, text] of [[cuts, "cut by"], [(cut) => leaves(cut).length, "frame left by"]]) {
    const names = all.filter(holds).map((cut) => words(cut.shape));
    if (names.length) said.push(`${text} ${names.join(", ")}`);
  }
  return said.join("; ");
}

// ---- filters and order

const tall = (entry) => entry.box[3] - entry.box[1] > entry.box[2] - entry.box[0];
const area = (entry) => (entry.box[2] - entry.box[0]) * (entry.box[3] - entry.box[1]);
const ratio = (entry) => (entry.box[3] - entry.box[1]) / (entry.box[2] - entry.box[0]);
const ORDERS = {
  order: () => 0,
  id: (a, b) => collator.compare(a.id, b.id),
  patient: (a, b) => collator.compare(a.patient, b.patient),
  label: (a, b) => b.label - a.label,
  size: (a, b) => (b.size ?? -1) - (a.size ?? -1),
  area: (a, b) => area(b) - area(a),
  ratio: (a, b) => ratio(b) - ratio(a),
};

function fits(entry) {
  if (asked.q && !entry.text.includes(asked.q.trim().toLowerCase())) return false;
  if (asked.label && entry.label !== Number(asked.label)) return false;
  if (asked.reader && (entry.reader ?? -1) !== Number(asked.reader)) return false;
  if (data.features.some((_, i) => asked[`f${i}`] && entry.features[i] !== Number(asked[`f${i}`])))
    return false;
  if (asked.tall && tall(entry) !== (asked.tall === "taller")) return false;
  if (!asked.cut) return true;
  const all = chosen(entry);
  if (asked.cut === "cut") return all.some(cuts);
  if (asked.cut === "outside") return all.some((cut) => leaves(cut).length);
  return all.every((cut) => cut.flags === 0);
}
