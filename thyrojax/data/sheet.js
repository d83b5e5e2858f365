// Draws the sheet: the cards near the screen, one nodule at full size, and the paper. It stands in
// one function with sheet_query.js, whose names it uses.
let shown = [];

function update() {
  ask();
  shown = data.entries.filter(fits).sort((a, b) => ORDERS[asked.sort](a, b) || a.place - b.place);
  const patients = new Set(shown.map((entry) => entry.patient)).size;
  find("count").textContent =
    `${number(shown.length)} of ${number(data.entries.length)} nodules, ${number(patients)} ` +
    (patients === 1 ? "patient" : "patients");
  find("none").hidden = shown.length > 0;
  drawKeys();
  current = 0;
  clear();
  measure();
}

// ---- drawing

function key(kind) {
  const drawn = svg("svg", { class: "key", viewBox: "0 0 28 8", "aria-hidden": "true" });
  drawn.append(svg("path", { class: kind, d: "M0 4H28" }));
  return drawn;
}

function drawKeys() {
  const kinds = asked.shape === "all" ? data.shapes : [asked.shape];
  find("window-keys").replaceChildren(
    ...kinds.flatMap((kind) => [key(kind), kinds.length > 1 ? words(kind) : "window"]));
}

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function stroke(parent, name, attributes, kind) {
  parent.append(svg(name, { ...attributes, class: "under" }));
  parent.append(svg(name, { ...attributes, class: kind }));
}

function overlay(parent, entry, windows) {
  const path = data.frames[entry.frame][4];
  if (asked.sector === "true" && path) stroke(parent, "path", { d: path }, "sector");
  if (asked.window === "true")
    for (const cut of windows)
      stroke(parent, "rect",
        { x: cut.left, y: cut.top, width: cut.width, height: cut.height }, cut.shape);
  const [left, top, right, bottom] = entry.box;
  if (asked.box === "true")
    stroke(parent, "rect", { x: left, y: top, width: right - left, height: bottom - top }, "box");
}

function stated(entry) {
  const said = data.features.flatMap((feature, i) => {
    const at = entry.features[i];
    if (at < 0 || (feature.name.startsWith("size") && entry.size !== null)) return [];
    const word = words(feature.words[at]);
    return [[feature.name, word]];
  });
  if (entry.size !== null) said.unshift(["size", `${entry.size} mm`]);
  return said;
}

// Words that say nothing without their feature's name.
const brief = ([name, word]) =>
  ["TI-RADS", "calcification", "nodule margin"].includes(name) ? `${name} ${word}` : word;

function draw(place) {
  const entry = shown[place];
  const item = find("card").content.firstElementChild.cloneNode(true);
  const card = item.firstElementChild;
  const [width, height, small] = data.frames[entry.frame];
  const picture = card.querySelector(".picture");
  picture.firstElementChild.src = small;
  const lines = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  overlay(lines, entry, chosen(entry));
  picture.append(lines);
  const size = `${entry.box[2] - entry.box[0]}\u00d7${entry.box[3] - entry.box[1]} px`;
  const said = {
    id: entry.id,
    patient: `patient ${entry.patient}`,
    label: data.labels[entry.label],
    what: [...stated(entry).map(brief), `box ${size}`].join(", "),
    note: notes(entry),
  };
  for (const [name, text] of Object.entries(said)) {
    const line = card.querySelector(`.${name}`);
    line.textContent = text;
    line.title = text;
  }
  item.setAttribute("aria-setsize", shown.length);
  item.setAttribute("aria-posinset", place + 1);
  card.tabIndex = place === current ? 0 : -1;
  card.addEventListener("click", () => open(place));
  card.addEventListener("focus", () => { setCurrent(place); });
  return item;
}

// ---- only what is near the screen exists; each card has its place by arithmetic

const drawn = new Map(); // place in `shown` -> its li
let columns = 1, step = { x: 1, y: 1 }, current = 0, printing = false;

function clear() {
  for (const item of drawn.values()) item.remove();
  drawn.clear();
}

function measure() {
  if (printing) return;
  const style = getComputedStyle(document.documentElement);
  const rem = parseFloat(style.fontSize);
  const least = parseFloat(style.getPropertyValue("--card")) * rem;
  const gap = parseFloat(style.getPropertyValue("--gap")) * rem;
  const width = sheet.clientWidth;
  const before = columns;
  columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
  const picture = (width < 30 * rem ? 7.5 : 10.5) * rem;
  step = { x: (width + gap) / columns, y: picture + 6.9 * rem + gap, gap };
  sheet.style.height = `${Math.ceil(shown.length / columns) * step.y}px`;
  for (const [place, item] of drawn) put(place, item);
  if (before !== columns) clear();
  fill();
}

function put(place, item) {
  const x = (place % columns) * step.x, y = Math.floor(place / columns) * step.y;
  item.style.transform = `translate(${x}px, ${y}px)`;
  item.style.width = `${step.x - step.gap}px`;
  item.style.height = `${step.y - step.gap}px`;
}

function fill() {
  if (printing) return;
  const top = -sheet.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step.y) - OVERSCAN) * columns;
  const rows = Math.ceil(innerHeight / step.y) + 2 * OVERSCAN + 1;
  const last = Math.min(shown.length, Math.max(first, 0) + rows * columns);
  for (const [place, item] of drawn)
    if ((place < first || place >= last) && !item.contains(document.activeElement)) {
      item.remove();
      drawn.delete(place);
    }
  if (first < last && !drawn.has(current) && (current < first || current >= last))
    setCurrent(Math.min(last - 1, first + OVERSCAN * columns));
  for (let place = first; place < last; place++) add(place);
}

function add(place) {
  if (drawn.has(place)) return;
  const item = draw(place);
  put(place, item);
  drawn.set(place, item);
  // In the order of the list, so that reading aloud follows it.
  let next = null, nearest = Infinity;
  for (const [other, element] of drawn)
    if (other > place && other < nearest) [nearest, next] = [other, element];
  sheet.insertBefore(item, next);
}

function setCurrent(place) {
  drawn.get(current)?.firstElementChild.setAttribute("tabindex", "-1");
  current = place;
  drawn.get(current)?.firstElementChild.setAttribute("tabindex", "0");
}

function focus(place) {
  const top = sheet.getBoundingClientRect().top + scrollY + Math.floor(place / columns) * step.y;
  if (top < scrollY) scrollTo(0, top - 8);
  else if (top + step.y > scrollY + innerHeight) scrollTo(0, top + step.y - innerHeight + 8);
  fill();
  add(place);
  setCurrent(place);
  drawn.get(place).firstElementChild.focus({ preventScroll: true });
}

sheet.addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor(innerHeight / step.y)) * columns;
  const moves = {
    ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
    PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
  };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (shown.length) focus(Math.min(shown.length - 1, Math.max(0, current + moves[event.key])));
});

let waiting = false;
addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; fill(); });
}, { passive: true });
new ResizeObserver(measure).observe(sheet.parentElement);

// ---- one nodule at full size

let opened = 0;

function open(place) {
  opened = place;
  fillDialog();
  if (!dialog.open) dialog.showModal();
  find("one-name").focus({ preventScroll: true });
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function fillDialog() {
  const entry = shown[opened];
  const windows = windowsOf(entry);
  const [width, height, , whole, sector] = data.frames[entry.frame];
  find("one-name").textContent = `${entry.id}, ${data.labels[entry.label]}`;
  find("before").disabled = opened === 0;
  find("after").disabled = opened === shown.length - 1;
  find("one-margin").value = asked.margin;

  const seen = asked.shape === "all" ? windows : chosen(entry);
  const left = Math.min(0, ...seen.map((cut) => cut.left)) - 2;
  const top = Math.min(0, ...seen.map((cut) => cut.top)) - 2;
  const right = Math.max(width, ...seen.map((cut) => cut.left + cut.width)) + 2;
  const bottom = Math.max(height, ...seen.map((cut) => cut.top + cut.height)) + 2;
  const picture = svg("svg", {
    viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
    width: right - left, height: bottom - top, role: "img",
    "aria-label": `Ultrasound frame of ${width} by ${height} pixels with the annotated box` +
      (sector ? ", the scan sector" : "") + ` and the window of margin ${asked.margin} ${data.unit}`,
  });
  picture.append(svg("image", { href: whole, width, height }));
  overlay(picture, entry, seen);
  find("one-frame").replaceChildren(picture);

  find("one-inputs").replaceChildren(...windows.map((cut) => {
    const figure = document.createElement("figure");
    const tile = element("span", "", "tile");
    const image = new Image();
    image.src = entry.inputs;
    image.style.width = `${data.shapes.length * 100}%`;
    image.style.left = `${-cut.column * 100}%`;
    image.style.top = `${-cut.row * 100}%`;
    image.alt = `The network's input from the ${words(cut.shape)} window`;
    const caption = document.createElement("figcaption");
    caption.append(element("b", words(cut.shape)), key(cut.shape), document.createElement("br"),
      `${cut.width}\u00d7${cut.height} px at ${cut.left}, ${cut.top}`);
    if (note(cut)) caption.append(document.createElement("br"), element("span", note(cut), "warn"));
    tile.append(image);
    figure.append(tile, caption);
    return figure;
  }));

  const [x0, y0, x1, y1] = entry.box;
  const facts = [
    ["patient", entry.patient],
    ["place in the set", number(entry.place + 1)],
    ["frame", `${width}\u00d7${height} px`],
    ["box", `${x0} ${y0} ${x1} ${y1} (${x1 - x0}\u00d7${y1 - y0} px)`],
    ["height / width", ratio(entry).toFixed(2)],
    ["scan sector", sector ? "found" : "none stands out"],
    ...stated(entry),
  ];
  if (entry.spacing !== null) facts.push(["pixel spacing", `${entry.spacing} mm`]);
  if (entry.reader !== null) facts.push(["reader\u2019s call", data.labels[entry.reader]]);
  find("one-facts").replaceChildren(...facts.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
}

function walk(by) {
  const place = opened + by;
  if (place < 0 || place >= shown.length) return;
  opened = place;
  fillDialog();
}

find("before").addEventListener("click", () => walk(-1));
find("after").addEventListener("click", () => walk(1));
find("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.target.matches("select")) return;
  if (event.key === "ArrowRight") walk(1);
  if (event.key === "ArrowLeft") walk(-1);
});
dialog.addEventListener("close", () => { if (shown.length) focus(opened); });
find("one-margin").append(...data.margins.map((margin) => new Option(`${margin} ${data.unit}`, margin)));
find("one-margin").addEventListener("change", (event) => {
  // The nodule on show stays, whatever the filters make of its new window.
  const entry = shown[opened];
  form.elements.margin.value = event.target.value;
  update();
  opened = shown.indexOf(entry);
  if (opened < 0) {
    shown.push(entry);
    opened = shown.length - 1;
    measure();
  }
  fillDialog();
});

// ---- paper: all that is shown, up to a number that a browser can lay out

function printAll() {
  if (printing || dialog.open) return;
  for (let place = 0; place < Math.min(shown.length, MOST_PRINTED); place++) add(place);
  printing = true;
  if (shown.length > MOST_PRINTED) find("count").textContent += `, the first ${MOST_PRINTED} printed`;
}

addEventListener("beforeprint", printAll);
addEventListener("afterprint", () => { if (printing) { printing = false; clear(); update(); } });
find("print").addEventListener("click", async () => {
  printAll();
  await Promise.allSettled([...sheet.querySelectorAll("img")].map((image) => image.decode()));
  print();
});

// ---- begin

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", update);
form.addEventListener("reset", () => setTimeout(update));
addEventListener("hashchange", () => { readAddress(); update(); });
if (matchMedia("(max-width: 46rem)").matches) find("filters").open = false;
readAddress();
update();
