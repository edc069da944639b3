// The script of review.html, which review.py puts into the page together with review.css.
// Text from the data reaches the page only through textContent and attributes, never as HTML.
"use strict";

const $ = (id) => window.document.getElementById(id);
const page = JSON.parse($("data").textContent); // a ReviewPage of review.py
const { classes } = page;
const rows = [...window.document.querySelectorAll(".rows")].flatMap((block) => JSON.parse(block.textContent));
const getId = (image) => `${image.sha256} ${image.filename}`;
const rowOf = new Map(rows.map((row, order) => [getId(row), Object.assign(row, { order, id: getId(row) })]));
const groups = new Map(); // number of a group of duplicates -> its rows
for (const row of rows) groups.get(row.group)?.push(row) ?? groups.set(row.group, [row]);

// id -> a row of the file, also for images that only another audit of this version, or an earlier page, lists
const decisions = new Map();
const numbers = Object.fromEntries(page.words.map((word) => [word, 0])); // decisions about images of this page
const past = []; // for undo: [{ row, before: [[id, decision or undefined], ...] }]
let shown = []; // the rows that pass the filters
let current = null; // one of them
let inGrid = false;
let database = null; // in which the browser keeps decisions, if it does
let saved = true; // whether the file holds all of them

// ---- decisions

function decide(row, changes) {
  past.push({ row, before: changes.map(([changed]) => [changed.id, getDecision(changed)]) });
  commitChange(changes.map((change) => makeDecision(...change)));
  const more = changes.length > 1 ? `, and ${changes.length - 1} more dropped` : "";
  say(`${describeDecision(row)}${more}: ${getBaseName(row)}. ${describeProgress()}`);
  const after = shown.filter((other) => other.order > row.order);
  go(after.find((other) => !getDecision(other)) ?? after[0] ?? row);
}

function makeDecision({ id, sha256, filename, label }, word, new_class = "", decided_at = "") {
  const decision = word === "relabel" && new_class === label ? "keep" : word;
  const new_label = decision === "relabel" ? new_class : "";
  decided_at ||= new Date().toISOString().replace(/\.\d+/, "");
  return [id, { sha256, filename, label, decision, new_label, decided_at }];
}

function setDecision(id, decision) {
  const before = decisions.get(id);
  if (before && rowOf.has(id)) numbers[before.decision] -= 1;
  if (decision && rowOf.has(id)) numbers[decision.decision] += 1;
  decision ? decisions.set(id, decision) : decisions.delete(id);
}

function undo() {
  const step = past.pop();
  if (!step) return say("Nothing to undo.");
  commitChange(step.before);
  go(step.row);
  return say(`Undone${step.row ? `: ${getBaseName(step.row)}` : ""}. ${describeProgress()}`);
}

function commitChange(changes) { // [[id, decision or undefined], ...]
  for (const change of changes) setDecision(...change);
  saved = false;
  store(changes);
  filter();
}

function suggest(row) {
  if (row.action === "drop") return { text: "Drop", changes: [[row, "drop"]] };
  if (row.action === "relabel" && classes.includes(row.new_label)) {
    return { text: `Relabel to ${row.new_label}`, changes: [[row, "relabel", row.new_label]] };
  }
  if (row.action === "keep_one" && getGroup(row).length > 1) {
    const others = getGroup(row).filter((other) => other !== row);
    const text = `Keep this, drop ${others.length === 1 ? "the other" : `${others.length} others`}`;
    return { text, changes: [[row, "keep"], ...others.map((other) => [other, "drop"])] };
  }
  return null;
}

function accept() {
  const suggested = suggest(current);
  return suggested
    ? decide(current, suggested.changes)
    : say(`There is no suggestion for ${getBaseName(current)}: look at it and decide.`);
}

const getGroup = (row) => (row.group ? groups.get(row.group) : [row]);
const formatName = (name) => name.replaceAll("_", " ");
const getBaseName = (row) => row.filename.split("/").pop();
const getDecision = (row) => decisions.get(row.id);

function describeDecision(row) {
  const decided = getDecision(row);
  if (!decided) return "undecided";
  return decided.decision === "relabel" ? `relabel to ${decided.new_label}` : decided.decision;
}

// ---- kept in the browser, in a database, since what localStorage holds is no more than some 20,000 decisions

const KEPT = "decisions"; // the database's only store: [page.store, id] -> decision
const ofPage = window.IDBKeyRange.bound([page.store], [page.store, []]);
const otherTabs = new BroadcastChannel(page.store);

const finish = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function openDatabase() {
  const request = window.indexedDB.open("review", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(KEPT);
  return finish(request);
}

function store(changes) {
  otherTabs.postMessage(changes);
  if (!database) return;
  try {
    const transaction = database.transaction(KEPT, "readwrite");
    const kept = transaction.objectStore(KEPT);
    for (const [id, decision] of changes) {
      decision ? kept.put(decision, [page.store, id]) : kept.delete([page.store, id]);
    }
    transaction.onabort = warn; // the disk is full
    transaction.commit(); // now, and so even if the page is closed in a moment
  } catch {
    warn(); // the browser has closed the database, as where a person clears what it keeps
  }
}

async function recall() {
  let stored = [];
  try {
    database = await openDatabase();
    stored = await finish(database.transaction(KEPT).objectStore(KEPT).getAll(ofPage));
  } catch {
    warn(); // a sandboxed frame, or forbidden
  }
  const earlier = recallEarlier();
  const all = [...page.settled, ...earlier, ...stored.filter(isDecision)].map((record) => [getId(record), record]);
  for (const change of all) setDecision(...change);
  saved = all.length === page.settled.length;
  if (!earlier.length || !database) return;
  store(all);
  window.localStorage.removeItem(page.store);
}

// Decisions that the page of an earlier release has kept.
function recallEarlier() {
  try {
    return JSON.parse(window.localStorage.getItem(page.store) ?? "[]").filter(isDecision);
  } catch {
    return []; // a sandboxed frame, or no text of ours
  }
}

function hear({ data }) { // the changes that another tab has stored
  for (const [id, decision] of data) if (!decision || isDecision(decision)) setDecision(id, decision);
  saved = false;
  refilter();
}

function warn() {
  database = null;
  $("warning").textContent = `This browser does not keep decisions here: save ${page.file} before you close the page.`;
  $("warning").hidden = false;
}

function isDecision(record) {
  return Boolean(record) && page.columns.every((name) => typeof record[name] === "string") && isKnown(record);
}

function isKnown({ decision, new_label }) {
  return page.words.includes(decision) && (decision !== "relabel" || classes.includes(new_label));
}

// ---- the file

// A spreadsheet would run such a cell. With an apostrophe before it, it is text; shared/formats/tables.py does the same.
const FORMULA = /^'*[=+\-@\t\r]/;
const quoteFormula = (cell) => (FORMULA.test(cell) ? `'${cell}` : cell);
const unquoteFormula = (cell) => (cell.startsWith("'") && FORMULA.test(cell) ? cell.slice(1) : cell);

function toCsv() {
  const quote = (cell) => (/^\s|[",;\t\r\n]|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  const order = ({ sha256, filename }) => rowOf.get(getId({ sha256, filename }))?.order ?? rows.length;
  const compare = (a, b) => order(a) - order(b) || (a.filename < b.filename ? -1 : 1);
  const records = [...decisions.values()].sort(compare);
  return [page.columns, ...records.map((record) => page.columns.map((name) => record[name]))]
    .map((cells) => `${cells.map(quoteFormula).map(quote).join(",")}\r\n`).join("");
}

function save() {
  const framed = window.self !== window.top;
  const href = URL.createObjectURL(new Blob([toCsv()], { type: "text/csv" }));
  make("a", { href, download: page.file }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
  saved = !framed; // a sandboxed frame refuses to save, and does not tell
  if (framed) {
    $("csv").value = toCsv();
    $("export").showModal();
    $("csv").select();
  }
  render();
  say(`${page.file}: ${formatCount(decisions.size, "decision")}.`);
}

function copy() {
  $("csv").select(); // the newer clipboard interface is forbidden in a sandboxed frame
  saved = window.document.execCommand("copy");
  $("copy").textContent = saved ? "Copied" : "Press Ctrl+C";
  render();
}

function parseCsv(text) {
  const first = text.split(/[\r\n]/, 1)[0];
  const number = (separator) => first.split(separator).length;
  const separator = [",", ";", "\t"].reduce((best, next) => (number(next) > number(best) ? next : best));
  const cell = new RegExp(`("(?:[^"]|"")*"|[^${separator}\\r\\n]*)(${separator}|\\r\\n|\\r|\\n|$)`, "g");
  const table = [[]];
  for (const [, value, end] of text.matchAll(cell)) {
    table.at(-1).push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value);
    if (end === "") break;
    if (end !== separator) table.push([]);
  }
  const [header, ...lines] = table;
  const columns = header.map((name) => name.trim());
  const record = (cells) =>
    Object.fromEntries(columns.map((name, index) => [name, unquoteFormula(cells[index] ?? "")]));
  return { columns, records: lines.map(record) };
}

function load(name, text) {
  const { columns, records } = parseCsv(text);
  const required = page.required_columns;
  if (!required.every((column) => columns.includes(column))) {
    const names = `${required.slice(0, -1).join(", ")} and ${required.at(-1)}`;
    return say(`${name} has no columns ${names}: choose a ${page.file}.`);
  }
  const decided = records.map(toDecision).filter(({ decision }) => decision);
  const listed = decided.filter((record) => rowOf.has(getId(record)));
  const known = listed.filter(isKnown);
  if (known.length) applyLoaded(known);
  const unlisted = decided.length - listed.length;
  const unknown = listed.length - known.length;
  return say([
    `${name}: ${formatCount(known.length, "decision")} loaded.`,
    ...(unlisted ? [`${unlisted} left out, on images that this page does not list.`] : []),
    ...(unknown ? [`${unknown} left out, with an unknown decision or class.`] : []),
  ].join(" "));
}

function toDecision(record) {
  const label_column = page.label_columns.find((name) => name in record);
  const new_label = record[label_column] ?? "";
  return { ...record, decision: record.decision.trim().toLowerCase(), new_label };
}

function applyLoaded(records) {
  past.push({ row: null, before: records.map((record) => [getId(record), decisions.get(getId(record))]) });
  commitChange(records.map((record) => {
    return makeDecision(rowOf.get(getId(record)), record.decision, record.new_label, record.decided_at);
  }));
  go(firstUndecided());
}

// ---- filters and moving

function filter() {
  const [label, kind, decision] = ["class", "kind", "decision"].map((id) => $(id).value);
  const passes = (row) =>
    (!label || row.label === label) && (!kind || row.kinds.includes(kind)) &&
    (!decision || (getDecision(row)?.decision ?? "undecided") === decision);
  shown = rows.filter(passes);
  if (shown.includes(current)) return;
  current = shown.find((row) => row.order > (current?.order ?? -1)) ?? shown.at(-1) ?? null;
}

function refilter() {
  filter();
  render();
}

function go(row) {
  if (shown.includes(row)) current = row;
  render();
  if (!inGrid || !current) return;
  if (!cards.has(current)) renderGrid(shown.indexOf(current));
  cards.get(current).scrollIntoView({ block: "nearest" });
  // What had the focus may have left the page because it was no longer in view.
  if ([window.document.body, ...$("grid").children].includes(window.document.activeElement)) {
    cards.get(current).focus({ preventScroll: true });
  }
}

const firstUndecided = () => shown.find((row) => !getDecision(row)) ?? shown[0];

function move(steps) {
  const index = Math.min(Math.max(shown.indexOf(current) + steps, 0), shown.length - 1);
  const atEnd = steps < 0 ? "This is the first image." : "This is the last image.";
  say(shown[index] === current ? atEnd : "");
  go(shown[index]);
}

const countColumns = () => globalThis.getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;

function show(grid) {
  inGrid = grid;
  go(current);
  if (inGrid && current) cards.get(current).focus();
  else $("main").focus();
}

function showAll() {
  for (const id of ["class", "kind", "decision"]) $(id).value = "";
  refilter();
}

// ---- what is seen

function make(tag, properties = {}, ...children) {
  const made = Object.assign(window.document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const formatCount = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const formatShare = (share) => (share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`);
const countDecided = () => Object.values(numbers).reduce((sum, number) => sum + number, 0);
const describeProgress = () => `${countDecided()} of ${rows.length} decided.`;

function say(text) {
  $("status").textContent = text;
}

function render() {
  renderProgress();
  renderButtons();
  $("single").hidden = inGrid || !current;
  $("grid").hidden = !inGrid || !current;
  $("empty").hidden = Boolean(current);
  $("none").textContent = rows.length ? "No image passes these filters." : "The audit found no suspicious image.";
  $("all").hidden = !rows.length;
  if (current && inGrid) renderGrid();
  else if (current) renderSingle(current);
}

function renderButtons() {
  const suggested = current && suggest(current);
  for (const id of ["previous", "keep", "relabel", "drop", "skip", "next"]) $(id).disabled = !current;
  $("undo").disabled = !past.length;
  $("accept").disabled = !suggested;
  $("accept").replaceChildren(suggested?.text ?? "No suggestion");
  if (suggested) $("accept").append(make("kbd", { textContent: "A" }));
  $("accept").title = suggested?.text ?? "";
  $("view").setAttribute("aria-pressed", inGrid);
}

function renderProgress() {
  const all = countDecided();
  const isDone = all > 0 && all === rows.length;
  $("progress").textContent = `${all} of ${rows.length} decided${isDone ? `: save ${page.file}` : ""}`;
  const elsewhere = decisions.size - all;
  const counts = [...Object.entries(numbers), ["on images not listed here", elsewhere]].filter(([, number]) => number);
  $("counts").textContent = counts.map(([what, number]) => `${number} ${what}`).join(" · ");
  const width = (number) => `width: ${(100 * number) / Math.max(rows.length, 1)}%`;
  const makeStripe = ([word, number]) => make("i", { className: word, style: width(number) });
  $("bar").replaceChildren(...Object.entries(numbers).map(makeStripe));
  $("save").classList.toggle("unsaved", !saved);
}

function renderSingle(row) {
  const position = shown.indexOf(row) + 1, isFiltered = shown.length < rows.length;
  $("picture").src = getPicture(row);
  $("picture").alt = `${row.filename}, given label ${row.label}`;
  $("position").textContent = `${position} of ${shown.length}${isFiltered ? " shown" : ""}` +
    (row.rank === position ? "" : `, rank ${row.rank}`);
  $("kinds").replaceChildren(
    ...row.kinds.map((kind) => make("span", { className: "chip", textContent: formatName(kind) })),
  );
  $("beliefs").replaceChildren(
    ...makeBelief("given label", row.label, row.label_probability, ""),
    ...(row.prediction ? makeBelief("model thinks", row.prediction, row.probability, "model") : []),
    ...row.decided.flatMap(([reviewer, decision]) => makeBelief(reviewer, decision, null, "")),
  );
  $("why").textContent = row.why;
  $("name").textContent = row.filename;
  $("verdict").textContent = getDecision(row) ? `Decided: ${describeDecision(row)}` : "";
  $("verdict").className = `verdict ${getDecision(row)?.decision ?? ""}`;
  renderRules(row);
  renderGroup(row);
}

function renderRules(row) {
  const compared = [row.label, row.new_label || row.prediction];
  for (const rule of window.document.querySelectorAll("#rules article")) {
    rule.hidden = !compared.includes(rule.dataset.class);
  }
}

function makeBelief(who, label, share, style) {
  const isKnown = share !== null;
  return [
    make("span", { className: "soft", textContent: who }),
    make("b", { textContent: label }),
    make("span", { className: isKnown ? `share ${style}` : "" }, make("i", { style: `width: ${100 * share}%` })),
    make("span", { textContent: isKnown ? formatShare(share) : "" }),
  ];
}

const MOST_COPIES = 100; // that are shown

function renderGroup(row) {
  const group = getGroup(row), isGroup = group.length > 1;
  $("group").hidden = !isGroup;
  $("single").classList.toggle("grouped", isGroup);
  const copies = isGroup ? group.slice(0, MOST_COPIES) : [];
  const rest = copies.length < group.length && isGroup ? `, the first ${copies.length} of them` : "";
  $("group-title").textContent = `Duplicates: ${formatCount(group.length, "image")}${rest}`;
  $("copies").replaceChildren(...copies.map((other) => makeCopyCard(other, row)));
}

function makeCopyCard(other, row) {
  const note = other === row ? "this image" : other.sha256 === row.sha256 ? "same bytes" : "";
  const card = make("button", { className: "card" });
  card.addEventListener("click", () => {
    if (!shown.includes(other)) showAll();
    go(other);
  });
  return renderCard(card, other, [other.split, note].filter(Boolean).join(", "), other === row);
}

const pictures = new Map(); // number of a block of them -> the pictures, of the blocks that were looked at last

function getPicture(row) {
  const number = Math.floor(row.order / page.block);
  const block = pictures.get(number) ?? parsePictures(number);
  return block[row.order % page.block] ?? "";
}

function parsePictures(number) {
  const element = $(`pictures-${number}`);
  if (!element?.nextSibling) return []; // the browser is still reading the page
  const block = JSON.parse(element.textContent);
  if (pictures.size >= 8) pictures.delete(pictures.keys().next().value);
  pictures.set(number, block);
  return block;
}

function showRead() { // what was not there when the page was shown first
  cards.clear();
  render();
}

const cards = new Map(); // row -> its button in the grid; of those rows alone that are in view, or nearly so
const NEARLY = 3; // rows of the grid above and below what is in view

function makeGridCard(row) {
  const card = make("button", { className: "card" });
  card.addEventListener("click", () => (row === current ? show(false) : go(row)));
  return card;
}

// Shows the part of the grid around a place in it, or what is in view; instead of the other cards there is room.
function renderGrid(place = null) {
  const grid = $("grid"), { gridAutoRows, rowGap } = globalThis.getComputedStyle(grid);
  const height = parseFloat(gridAutoRows) + parseFloat(rowGap), width = countColumns();
  const top = place === null ? -grid.getBoundingClientRect().top : Math.floor(place / width) * height;
  const all = Math.ceil(shown.length / width), inView = Math.ceil(window.innerHeight / height);
  const first = Math.min(Math.max(Math.floor(top / height) - NEARLY, 0), Math.max(all - 1, 0));
  const last = Math.min(Math.max(first, Math.floor(top / height) + inView + NEARLY), all);
  grid.style.paddingTop = `${first * height}px`;
  grid.style.paddingBottom = `${(all - last) * height}px`;
  const present = new Map(cards);
  cards.clear();
  for (const row of shown.slice(first * width, last * width)) {
    cards.set(row, present.get(row) ?? makeGridCard(row));
    renderCard(cards.get(row), row, formatName(row.kinds.join(", ")), row === current);
  }
  const wanted = [...cards.values()], focused = window.document.activeElement;
  if (wanted.length === grid.children.length && wanted.every((card, index) => card === grid.children[index])) return;
  grid.replaceChildren(...wanted);
  if (grid.contains(focused)) focused.focus({ preventScroll: true });
}

function renderCard(card, row, note, isCurrent) {
  const state = `${describeDecision(row)}/${isCurrent}/${note}`;
  if (card.dataset.state === state) return card;
  card.dataset.state = state;
  const decided = getDecision(row);
  card.replaceChildren(
    make("img", { alt: "", src: getPicture(row) }),
    make("span", {}, make("b", { textContent: row.suggestion })),
    make("span", { className: "soft", textContent: note }),
    make("span", { className: decided?.decision ?? "soft", textContent: describeDecision(row) }),
  );
  card.title = row.filename;
  card.classList.toggle("decided", Boolean(decided));
  isCurrent ? card.setAttribute("aria-current", "true") : card.removeAttribute("aria-current");
  card.tabIndex = isCurrent || card !== cards.get(row) ? 0 : -1; // in the grid, arrows move from card to card
  return card;
}

function fillFilters() {
  const fill = (id, all, values, text) => {
    const options = values.map((value) => make("option", { value, textContent: text(value) }));
    $(id).replaceChildren(make("option", { value: "", textContent: all }), ...options);
  };
  const number = (passes) => `(${rows.filter(passes).length})`;
  const kinds = [...new Set(rows.flatMap((row) => row.kinds))];
  fill("class", "All classes", classes, (name) => `${name} ${number((row) => row.label === name)}`);
  fill("kind", "All kinds", kinds, (kind) => `${formatName(kind)} ${number((row) => row.kinds.includes(kind))}`);
  fill("decision", "All images", ["undecided", ...page.words], (word) => word);
}

// ---- choosing a class

const numbered = !classes.some((name) => /\d/.test(name)); // else a digit is the beginning of a name
const letters = new Intl.Collator("en", { sensitivity: "base" }); // by which o finds Ø
const numberOf = (index) => (classes.length <= 10 ? String((index + 1) % 10) : String(index + 1));
let matches = []; // positions of the classes that match what was typed
let marked = 0; // position in matches

function openChooser() {
  $("chooser-picture").src = getPicture(current);
  $("chooser-title").textContent = `Which class, if not ${current.label}?`;
  $("query").placeholder = numbered ? "Number or name" : "Name";
  $("query").setAttribute("aria-label", `The right class: ${numbered ? "number or name" : "name"}`);
  $("query").value = "";
  match();
  const likely = [current.new_label, current.prediction].find((name) =>
    classes.includes(name) && name !== current.label
  );
  marked = Math.max(matches.indexOf(classes.indexOf(likely)), 0);
  renderOptions();
  $("chooser").showModal();
  if (!window.matchMedia("(pointer: coarse)").matches) $("query").focus(); // no keyboard over the buttons of a phone
}

function match() {
  const typed = $("query").value.trim(), low = typed.toLowerCase();
  const byNumber = numbered && /^\d+$/.test(typed);
  const distance = (name, index) => {
    if (byNumber) return numberOf(index) === typed ? 0 : numberOf(index).startsWith(typed) ? 1 : Infinity;
    const lower = name.toLowerCase();
    if (lower.includes(low)) return name === typed ? 0 : lower === low ? 1 : lower.startsWith(low) ? 2 : 3;
    return letters.compare(name.normalize().slice(0, typed.length), typed) === 0 ? 4 : Infinity;
  };
  const distances = classes.map(distance);
  matches = classes.map((_, index) => index).filter((index) => distances[index] < Infinity);
  if (typed) matches.sort((a, b) => distances[a] - distances[b] || a - b);
  marked = 0;
  if (byNumber && classes.length <= 10 && matches.length === 1) choose(matches[0]);
  else renderOptions();
}

function renderOptions() {
  $("options").style.setProperty("--longest", Math.max(...classes.map((name) => name.length)));
  $("options").replaceChildren(...matches.map((index, position) => {
    const name = make("span", { textContent: classes[index] });
    const option = make("div", { className: "option", id: `option-${index}` }, name);
    if (numbered) option.append(make("kbd", { textContent: numberOf(index) }));
    option.addEventListener("click", () => choose(index));
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", position === marked);
    return option;
  }));
  if (!matches.length) $("options").textContent = "No such class.";
  $("query").setAttribute("aria-activedescendant", matches.length ? `option-${matches[marked]}` : "");
  $("options").children[marked]?.scrollIntoView({ block: "nearest" });
}

function choose(index) {
  $("chooser").close();
  decide(current, [[current, "relabel", classes[index]]]);
}

function handleChooserKey(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (event.key.length === 1) $("query").focus();
  if (event.target.closest("[data-close]") || !(step || event.key === "Enter")) return;
  event.preventDefault();
  if (!matches.length) return;
  if (step) {
    marked = (marked + step + matches.length) % matches.length;
    renderOptions();
  } else if (!event.repeat) choose(matches[marked]);
}

// ---- keys and buttons

const needsImage = (action) => () => current && action();
const simply = (word) => needsImage(() => decide(current, [[current, word]]));
const buttons = {
  keep: simply("keep"),
  drop: simply("drop"),
  skip: simply("skip"),
  accept: needsImage(accept),
  relabel: needsImage(openChooser),
  undo,
  previous: needsImage(() => move(-1)),
  next: needsImage(() => move(1)),
  view: () => show(!inGrid),
  save,
  load: () => $("file").click(),
  help: () => $("keys").showModal(),
  all: showAll,
  copy,
};
const once = {
  k: "keep",
  r: "relabel",
  d: "drop",
  s: "skip",
  a: "accept",
  g: "view",
  w: "save",
  o: "load",
  "?": "help",
};
const repeated = { u: "undo", n: "next", p: "previous" };
const moves = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  Home: () => move(-rows.length),
  End: () => move(rows.length),
  ArrowUp: () => move(-countColumns()),
  ArrowDown: () => move(countColumns()),
};

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || window.document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const inSelect = event.target.matches("select");
  let action = buttons[once[key] ?? repeated[key]];
  if (key === "f") action = () => $("class").focus();
  if (inSelect && key === "Escape") action = () => show(inGrid);
  if (!inSelect && current && (inGrid || !["ArrowUp", "ArrowDown"].includes(key))) action ??= moves[key];
  if (!action || (event.repeat && once[key])) return;
  event.preventDefault();
  action();
}

async function start() {
  $("version").textContent = page.data_version;
  $("by-number").hidden = !numbered;
  fillFilters();
  otherTabs.addEventListener("message", hear);
  await recall();
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", action);
  for (const button of window.document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  for (const id of ["class", "kind", "decision"]) $(id).addEventListener("change", refilter);
  $("file").addEventListener("change", async () => {
    const [file] = $("file").files;
    if (file) load(file.name, await file.text());
    $("file").value = ""; // the same file may be loaded again
  });
  $("query").addEventListener("input", match);
  $("chooser").addEventListener("keydown", handleChooserKey);
  window.document.addEventListener("keydown", handleKey);
  for (const event of ["scroll", "resize"]) {
    window.addEventListener(event, () => inGrid && current && renderGrid(), { passive: true });
  }
  window.document.addEventListener("DOMContentLoaded", showRead);
  window.addEventListener("beforeunload", (event) => {
    if (!database && !saved) event.preventDefault();
  });
  filter();
  go(firstUndecided());
}

start();
