"use strict";
// Draws the page's figures when they come into view, and makes its tables and its timeline searchable.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
let paper = false;

function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function themed(layout) {
  const night = dark.matches && !paper;
  const ink = night ? "#e6e8eb" : "#1c1f24", grid = night ? "#333a42" : "#dfe3e8";
  const axis = { gridcolor: grid, zerolinecolor: grid, automargin: true };
  const axes = Object.fromEntries(["xaxis", "yaxis"].map((name) => [name, { ...axis, ...layout[name] }]));
  return {
    // The legend lies below and the tool bar above, so neither covers the other.
    legend: { orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom" },
    margin: { t: 40, r: 20, b: 80 }, hovermode: "x unified", showlegend: true,
    hoverlabel: { bgcolor: night ? "#1e2329" : "#ffffff", font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: night ? "#a3adb8" : "#56606b", activecolor: ink },
    ...layout, ...axes, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink },
  };
}

const settings = {
  responsive: true, displaylogo: false, displayModeBar: true,
  // Named one by one: Plotly's own choice has a button that sends the figure's data to a service.
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
};

function draw(n) {
  drawn.add(n);
  const place = document.getElementById("figure-" + n), figure = figures[n];
  if (figure.timeline) drawTimeline(place, figure);
  else Plotly.react(place, figure.data, themed(figure.layout), settings);
}

// ---------------------------------------------------------------- timeline: a row a program, spans in several states

function drawTimeline(place, figure) {
  const { rows, states } = figure.timeline;
  const box = document.getElementById(place.id + "-search"), told = document.getElementById(place.id + "-told");
  const wanted = box.value.trim().toLowerCase();
  const kept = rows.map((_, n) => n).filter((n) => rows[n].toLowerCase().includes(wanted));
  const at = new Map(kept.map((row, n) => [row, n]));
  const spans = kept.map(() => []);
  const data = states.map((state, which) => {
    const x = [], y = [];
    for (let n = 0; n < state.spans.length; n += 3) {
      const row = at.get(state.spans[n]);
      if (row === undefined) continue;
      const begin = state.spans[n + 1], end = state.spans[n + 2];
      x.push(begin, end, null);
      y.push(row, row, null);
      spans[row].push([begin, end, which]);
    }
    return {
      type: "scatter", mode: "lines", name: state.name, x, y, hoverinfo: "skip", connectgaps: false,
      line: { color: state.colour, width: 4, simplify: false },
    };
  });
  place.shown = { kept, rows, states, spans };
  told.value = `${kept.length} of ${rows.length} programs`;
  const range = [Math.max(kept.length, 4) - 0.5, -0.5];
  const layout = themed({
    ...figure.layout, hovermode: false, dragmode: "zoom",
    xaxis: { ...figure.layout.xaxis, range: figure.timeline.window },
    yaxis: { range, zeroline: false, showgrid: false },
  });
  Plotly.react(place, data, layout, settings).then(() => fitRows(place));
  if (place.wired) return;
  place.wired = true;
  box.addEventListener("input", () => drawTimeline(place, figure));
  place.on("plotly_relayout", (change) => { if (!("yaxis.tickvals" in change)) fitRows(place); });
  place.addEventListener("mousemove", (event) => tell(place, told, event));
  for (const button of document.querySelectorAll(`[data-of="${place.id}"]`))
    button.addEventListener("click", () => move(place, figure, button.dataset.move));
}

function fitRows(place) {
  // As thick as the rows that are in view allow, and as many names as can be read.
  const { yaxis } = place._fullLayout, { kept, rows, states } = place.shown;
  const [high, low] = yaxis.range, count = Math.max(1, Math.abs(high - low));
  const thick = Math.min(16, Math.max(1, (0.8 * yaxis._length) / count));
  const every = Math.max(1, Math.ceil((count * 13) / yaxis._length));
  const ticks = kept.map((_, n) => n).filter((n) => n % every === 0);
  Plotly.update(
    place, { "line.width": states.map((state) => Math.max(1, thick * state.thickness)) },
    { "yaxis.tickvals": ticks, "yaxis.ticktext": ticks.map((n) => escaped(rows[kept[n]].slice(0, 28))) },
  );
}

function tell(place, told, event) {
  const { xaxis, yaxis } = place._fullLayout, bounds = place.getBoundingClientRect();
  const x = xaxis.p2d(event.clientX - bounds.left - xaxis._offset);
  const row = Math.round(yaxis.p2d(event.clientY - bounds.top - yaxis._offset));
  const { kept, rows, states, spans } = place.shown;
  if (!(row in kept)) return;
  const doing = spans[row].filter(([begin, end]) => begin <= x && x <= end)
    .map(([begin, end, which]) => `${states[which].name} ${begin.toFixed(1)}–${end.toFixed(1)} s`);
  told.value = `${rows[kept[row]]} at ${x.toFixed(1)} s: ${doing.join(", ") || "nothing"}`;
}

function move(place, figure, how) {
  const [begin, end] = place._fullLayout.xaxis.range, wide = end - begin;
  const to = {
    in: [begin + wide / 4, end - wide / 4], out: [begin - wide / 2, end + wide / 2],
    earlier: [begin - wide / 4, end - wide / 4], later: [begin + wide / 4, end + wide / 4],
  }[how];
  if (to) Plotly.relayout(place, { "xaxis.range": to });
  else drawTimeline(place, figure);
}

// ---------------------------------------------------------------- tables

for (const box of document.querySelectorAll("input[data-table]")) {
  const rows = [...document.getElementById(box.dataset.table).tBodies[0].rows];
  const told = document.getElementById(box.dataset.table + "-told");
  const filter = () => {
    const wanted = box.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    told.value = `${shown} of ${rows.length}`;
  };
  box.addEventListener("input", filter);
  filter();
}

// ---------------------------------------------------------------- when to draw

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries)
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      draw(Number(entry.target.id.slice("figure-".length)));
    }
}, { rootMargin: "300px" });
figures.forEach((_, n) => seen.observe(document.getElementById("figure-" + n)));
dark.addEventListener("change", () => drawn.forEach(draw));
addEventListener("beforeprint", () => { paper = true; figures.forEach((_, n) => draw(n)); });
addEventListener("afterprint", () => { paper = false; figures.forEach((_, n) => draw(n)); });
