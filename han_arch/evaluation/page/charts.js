"use strict";
// The palette of Okabe and Ito, which colour-blind readers can distinguish.
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f8400"];
const CONTESTANTS = unique(data.rows.map((row) => row.model)).filter((name) => name !== "Bicubic");
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross"];
const SYMBOL_SIGNS = ["\u25CF", "\u25C6", "\u25A0", "\u25B2", "\u271A"];
const VARIANTS = unique(data.rows.map((row) => row.variant));

// Plotly reads some tags of HTML and its own %{} in texts.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%\{/g, "%\u200b{");

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (name) =>
  (CONTESTANTS.includes(name) ? PALETTE[CONTESTANTS.indexOf(name) % PALETTE.length] : variable("--quiet"));

function layout(x, y, more = {}) {
  const axis = (title) => ({ title: { text: title }, gridcolor: variable("--line"), zeroline: false,
    linecolor: variable("--line"), automargin: true });
  return { paper_bgcolor: variable("--paper"), plot_bgcolor: variable("--paper"), height: 384,
    font: { color: variable("--ink"), family: "system-ui, sans-serif", size: 13 }, margin: { l: 60, r: 20, t: 10, b: 50 },
    xaxis: { ...axis(x), ...more.xaxis }, yaxis: { ...axis(y), ...more.yaxis }, shapes: more.shapes || [],
    annotations: more.annotations || [], hoverlabel: { font: { family: "system-ui, sans-serif" } },
    showlegend: false };
}

const CONFIG = { displayModeBar: false, responsive: true };

function drawCost(id, key, title, unit = 1) {
  const set = chartSet();
  const rows = data.rows.filter((row) => row.protocol === byId("protocol").value && row.set === set && row.psnr_db !== null);
  const drawn = rows.filter((row) => row[key] > 0);
  const traces = drawn.map((row) => ({
    x: [row[key] / unit], y: [row.psnr_db], name: row.label, type: "scatter", mode: "markers",
    marker: { size: 13, color: colour(row.model), symbol: SYMBOLS[VARIANTS.indexOf(row.variant) % SYMBOLS.length] },
    hovertemplate: `%{y:.3f} dB at %{x:.3g}<extra>${plain(row.label)}</extra>`,
  }));
  // Bicubic has 0 multiply-adds, which a logarithmic axis cannot show. Draw it as a horizontal line.
  const free = rows.filter((row) => !(row[key] > 0));
  const shapes = free.map((row) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: row.psnr_db, y1: row.psnr_db,
    line: { dash: "dash", width: 1.5, color: colour(row.model) } }));
  const annotations = free.map((row) => ({ xref: "paper", x: 1, xanchor: "right", y: row.psnr_db, yanchor: "bottom",
    text: plain(row.label), showarrow: false }));
  const values = drawn.map((row) => row[key] / unit);
  // Label powers of 10 on a wide axis, and also 2 and 5 on a narrow axis, which may contain no power of 10.
  const wide = Math.max(...values) / Math.min(...values) > 30;
  Plotly.react(byId(id), traces, layout(title, `PSNR on ${plain(set)}, dB`,
    { xaxis: { type: "log", dtick: wide ? 1 : "D2", tickformat: "~r" }, shapes, annotations }), CONFIG);
}

function drawPerImage() {
  const set = chartSet();
  const find = (label) => data.rows.find((row) =>
    row.protocol === byId("protocol").value && row.set === set && row.label === label);
  const [across, up] = [find(byId("across").value), find(byId("up").value)];
  if (!across || !up) return;
  const names = Object.keys(across.per_image).filter((name) => across.per_image[name] !== null && up.per_image[name] !== null);
  const x = names.map((name) => across.per_image[name]);
  // The y axis shows the difference in PSNR, because differences of 0.1 dB are invisible on an axis of 15 dB.
  const y = names.map((name) => up.per_image[name] - across.per_image[name]);
  const above = names.filter((name) => up.per_image[name] > across.per_image[name]).length;
  const trace = { x, y, text: names.map((name, i) => `${plain(name)}: ${fixed(3, true)(y[i])} dB`), type: "scatter",
    mode: "markers", marker: { size: 9, color: colour(up.model), opacity: 0.75 }, hovertemplate: "%{text}<extra></extra>" };
  const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0,
    line: { color: variable("--quiet"), dash: "dash", width: 1.5 } }];
  Plotly.react(byId("per-image"), [trace], layout(`PSNR of ${plain(across.label)}, dB`,
    `${plain(up.label)} minus ${plain(across.label)}, dB`, { shapes }), CONFIG);
  byId("per-image-note").textContent =
    `${set}: ${up.label} has a higher PSNR than ${across.label} on ${above} of ${names.length} images.`;
}

function refreshPairs() {
  const labels = unique(data.rows.filter((row) => row.protocol === byId("protocol").value && row.set === chartSet())
    .map((row) => row.label));
  // Keep the chosen contestants if they are still available, unless both are the same contestant.
  const chosen = [byId("across").value, byId("up").value];
  const kept = chosen[0] === chosen[1] ? [] : chosen;
  const first = labels.includes(data.baseline) ? data.baseline : labels[0];
  const second = [...labels].reverse().find((label) => label !== first && !label.endsWith(")")) || first;
  fillSelect(byId("across"), labels, labels.includes(kept[0]) ? kept[0] : first);
  fillSelect(byId("up"), labels, labels.includes(kept[1]) ? kept[1] : second);
}

function drawLegend() {
  const rows = data.rows.filter((row) => row.protocol === byId("protocol").value && row.set === chartSet());
  byId("legend").replaceChildren(...rows.map((row) => {
    const item = document.createElement("li");
    const sign = document.createElement("span");
    const symbol = VARIANTS.indexOf(row.variant) % SYMBOLS.length;
    sign.textContent = SYMBOL_SIGNS[symbol];
    sign.style.color = colour(row.model);
    item.append(sign, ` ${row.label}`);
    return item;
  }));
}

function drawAll() {
  drawTables();
  refreshPairs();
  drawLegend();
  drawCost("by-madds", "madds_per_output_mp", "1e9 multiply-adds per output megapixel", 1e9);
  drawCost("by-time", "relative_time", `time / time of ${plain(data.baseline)}`);
  drawPerImage();
}

byId("protocol").addEventListener("change", () => { refreshSets(); drawAll(); });
byId("set").addEventListener("change", drawAll);
byId("filter").addEventListener("input", drawTables);
byId("across").addEventListener("change", drawPerImage);
byId("up").addEventListener("change", drawPerImage);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
