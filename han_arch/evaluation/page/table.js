"use strict";
// The tables. The page shows one protocol at a time. The charts show one test set; the table can show all sets.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const fixed = (digits, sign = false) => (v) =>
  v === undefined ? "" : v === null ? "-" : (sign && v >= 0 ? "+" : "") + v.toFixed(digits);

const shared = (share) => (share ? ` (${share})` : ""); // a mean over some of the images

const COLUMNS = [
  { key: "label", title: "contestant", text: true },
  { key: "set", title: "set", text: true },
  { key: "psnr_db", title: "PSNR, dB", show: (v, r) => fixed(data.digits.psnr + 1)(v) + shared(r.share) },
  { key: "ssim", title: "SSIM", show: (v, r) => fixed(data.digits.ssim)(v) + shared(r.share) },
  { key: "published_psnr_db", title: "published, dB", show: fixed(data.digits.psnr), hint: (r) => r.source },
  { key: "minus_published_db", title: "minus published, dB", show: fixed(data.digits.psnr, true), hint: (r) => r.source },
  { key: "minus_baseline_db", title: `minus ${data.baseline}, dB`, show: (v, r) => fixed(3, true)(v) + shared(r.compared) },
  { key: "interval_low_db", title: "95 % interval", show: (v, r) => (v === undefined ? "" : v === null ? "-" :
    `[${fixed(3, true)(r.interval_low_db)}, ${fixed(3, true)(r.interval_high_db)}]`) },
  { key: "sign_test_p", title: "sign test", show: (v, r) => (v === undefined ? "" : r.minus_baseline_db === null ? "-" :
    `${r.wins} : ${r.losses}, p = ${v.toPrecision(2)}`) },
  { key: "verdict", title: "verdict", text: true, mark: true },
  { key: "minus_full_db", title: "minus variant full, dB", show: fixed(3, true), hint: (r) => r.full_note },
  ...data.perceptual.map((name) => ({ key: name, title: name.toUpperCase(),
    show: (v, r) => fixed(data.digits[name])(v) + shared(r.perceptual_share[name]) })),
  { key: "parameters", title: "parameters", show: (v) => v.toLocaleString("en") },
  { key: "madds_per_output_mp", title: "GMAdd / MP", show: (v) => fixed(1)(v && v / 1e9) },
  { key: "relative_time", title: `time / ${data.baseline}`, show: fixed(2) },
  { key: "peak_mb", title: "peak MB", show: fixed(0) },
  { key: "weights_sha256", title: "SHA-256 of weights", text: true, show: (v) => v.slice(0, 12) },
  { key: "date", title: "measured on", text: true, hint: (r) => `${r.command}; ${r.commit}; ${r.device}; ${r.versions}` },
];
const PUBLISHED_COLUMNS = [
  { key: "method", title: "method", text: true },
  { key: "set", title: "set", text: true },
  { key: "psnr_db", title: "PSNR, dB", show: fixed(data.digits.psnr) },
  { key: "ssim", title: "SSIM", show: fixed(data.digits.ssim) },
  { key: "status", title: "status", text: true },
  { key: "source", title: "source", text: true },
];
const ALL_SETS = "all sets";

function fillSelect(select, values, wanted) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === wanted)));
}

function visibleRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  return data.rows.filter((row) => row.protocol === byId("protocol").value)
    .filter((row) => byId("set").value === ALL_SETS || row.set === byId("set").value)
    .filter((row) => words.every((word) => `${row.label} ${row.set} ${row.verdict ?? ""}`.toLowerCase().includes(word)));
}

// Return the test set that the charts show: the chosen set or, for "all sets", the set with the most images.
function chartSet() {
  if (byId("set").value !== ALL_SETS) return byId("set").value;
  const rows = data.rows.filter((row) => row.protocol === byId("protocol").value);
  return rows.reduce((best, row) => (row.images > best.images ? row : best), rows[0]).set;
}

function sorted(rows, columns, sort) {
  if (!sort.key) return rows;
  const text = columns.find((column) => column.key === sort.key).text;
  const missing = (row) => row[sort.key] === null || row[sort.key] === undefined || row[sort.key] === "";
  return [...rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = text ? String(a[sort.key]).localeCompare(String(b[sort.key])) : a[sort.key] - b[sort.key];
    return sort.descending ? -order : order;
  });
}

function drawTable(table, columns, rows, sort) {
  const head = document.createElement("tr");
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = column.text ? "text" : "";
    if (sort.key === column.key) cell.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      // The first click sorts numbers from large to small, and texts from A to Z. The next click reverses the order.
      const again = sort.key === column.key;
      sort.descending = again ? !sort.descending : !column.text;
      sort.key = column.key;
      drawTable(table, columns, rows, sort);
      table.tHead.querySelectorAll("button")[columns.indexOf(column)].focus();
    });
    cell.append(button);
    head.append(cell);
  }
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...sorted(rows, columns, sort).map((row) => {
    const line = document.createElement("tr");
    for (const column of columns) {
      const cell = document.createElement("td");
      cell.className = [column.text ? "text" : "", column.mark ? row[column.key] ?? "" : ""].join(" ").trim();
      cell.textContent = column.show ? column.show(row[column.key], row) : row[column.key] ?? "";
      const hint = column.hint && column.hint(row);
      if (hint) cell.title = hint;
      line.append(cell);
    }
    return line;
  }));
}

const resultSort = {};
const publishedSort = {};

function drawTables() {
  const rows = visibleRows();
  drawTable(byId("results"), COLUMNS, rows, resultSort);
  const papers = data.published.filter((row) => row.protocol === byId("protocol").value)
    .filter((row) => byId("set").value === ALL_SETS || row.set === byId("set").value);
  drawTable(byId("published"), PUBLISHED_COLUMNS, papers, publishedSort);
  byId("published-section").hidden = papers.length === 0;
  byId("protocol-note").textContent = `Protocol of all numbers below: ${byId("protocol").value}`;
  byId("notes").textContent = rows.filter((row) => row.not_averaged)
    .map((row) => `${row.label}, ${row.set}: ${row.not_averaged}.`)
    .concat(`The verdict compares a contestant with ${data.baseline}. It is ahead or behind only if the 95 % paired ` +
      "bootstrap interval of the mean difference does not contain 0, and the p-value of the sign test is below 5 %. " +
      "Otherwise it is not settled. Five images are too few for a verdict. The verdict considers only the images. " +
      "Training with another seed also changes the scores.").join(" ");
}

function refreshSets() {
  const sets = unique(data.rows.filter((row) => row.protocol === byId("protocol").value).map((row) => row.set));
  const kept = byId("set").value;
  fillSelect(byId("set"), sets.length > 1 ? [ALL_SETS, ...sets] : sets, sets.includes(kept) ? kept : ALL_SETS);
}

fillSelect(byId("protocol"), unique(data.rows.map((row) => row.protocol)));
refreshSets();
