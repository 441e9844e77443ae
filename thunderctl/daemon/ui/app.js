// The page at /ui: asks its own daemon, and only ever reads. Rule: names of programs, tools and errors come from
// outside, so they become text (textContent) and never markup, and go into addresses through encodeURIComponent.
"use strict";

const STORED_KEY = "thunderctl-key";
const PICTURES_KEPT = 300; // five minutes of the small curves
const LARGEST_EVENT = 4 << 20; // characters; more without an end is no stream of ours
const PAGES = ["login", "overview", "program", "decisions", "found"];
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);
let key = sessionStorage.getItem(STORED_KEY) || "";
let stream = null; // the AbortController of the stream that is read
let held = false;
let picture = null;
const past = [];
let refreshing = false;

// ---------------------------------------------------------------- words and numbers

const whole = new Intl.NumberFormat("en");
const count = (n) => (n === null || n === undefined ? "" : whole.format(Math.round(n)));
const rate = (n) => (n >= 100 ? count(n) : n.toFixed(1));
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}%`);
const clock = (at) => new Date(1000 * at).toLocaleTimeString("en-GB");

function seconds(s) {
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return `${unit === "B" ? n : n.toFixed(1)} ${unit}`;
    n /= 1024;
  }
  return `${n.toFixed(1)} TiB`;
}

// ---------------------------------------------------------------- drawing without disturbing

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Children of `parent`, one an item and reused by `keyOf`: whoever reads or points at one keeps it.
function each(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  items.forEach((item, place) => {
    const name = String(keyOf(item, place));
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] || null);
  });
  for (const gone of known.values()) gone.remove();
  if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

// Rows of a table; a cell is a text, {number}, {program}, {long}, or {bar, label}.
function rows(body, items, keyOf, cellsOf) {
  each(body, items, keyOf, (item) => {
    const row = make("tr");
    for (const cell of cellsOf(item)) row.append(newCell(cell));
    return row;
  }, (row, item) => {
    cellsOf(item).forEach((cell, place) => setCell(row.children[place], cell));
  });
}

function newCell(cell) {
  const kind = cell.number !== undefined ? "number" : cell.long !== undefined ? "long" : cell.program !== undefined ? "name" : "";
  const td = make("td", kind);
  if (cell.program !== undefined) td.append(make("a"));
  if (cell.bar !== undefined) td.append(make("div", "bar"));
  return td;
}

function setCell(td, cell) {
  if (cell.program !== undefined) linkTo(td.firstChild, cell.program);
  else if (cell.bar !== undefined) bar(td.firstChild, cell.bar, cell.label);
  else say(td, String(cell.number ?? cell.long ?? cell));
}

function linkTo(link, program) {
  say(link, program);
  link.title = program;
  const target = `#/program/${encodeURIComponent(program)}`;
  if (link.getAttribute("href") !== target) link.setAttribute("href", target);
}

// A bar of shares of a whole: [[class, amount], …].
function bar(element, parts, label) {
  element.setAttribute("role", "img");
  if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
  each(element, parts, ([name]) => name, ([name]) => make("div", `fill ${name}`), (fill, [, share]) => {
    fill.style.width = `${Math.min(100, 100 * Math.max(0, share || 0)).toFixed(2)}%`;
  });
}

// A list of terms: [[term, text, class, curve], …].
function terms(list, entries) {
  each(list, entries, ([term]) => term, ([term, , className]) => {
    const row = make("div");
    row.append(make("dt", className || "", term), make("dd"));
    return row;
  }, (row, [, text, , curve]) => {
    const told = row.lastChild;
    if (!told.firstChild) told.append("");
    if (told.firstChild.data !== text) told.firstChild.data = text;
    if (curve) drawCurve(told, curve);
  });
}

function drawCurve(holder, values) {
  let svg = holder.querySelector("svg");
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${PICTURES_KEPT - 1} 24`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(SVG, "polyline"));
    holder.append(svg);
  }
  const top = Math.max(1e-9, ...values.filter((v) => v !== null));
  const first = PICTURES_KEPT - values.length;
  const points = values.flatMap((v, i) => (v === null ? [] : [`${first + i},${(23 - 22 * (v / top)).toFixed(1)}`]));
  svg.firstChild.setAttribute("points", points.join(" "));
}

// ---------------------------------------------------------------- asking

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  if (answer.ok) return answer;
  let told = `HTTP ${answer.status}`;
  try {
    told = (await answer.json()).error.message;
  } catch { /* not one of the daemon's own errors */ }
  throw new Refused(answer.status, told);
}

const askJson = async (path) => (await ask(path)).json();

function connection(text, bad) {
  const place = at("connection");
  say(place, text);
  place.classList.toggle("bad", Boolean(bad));
}

function wantKey(message) {
  if (stream) stream.abort();
  key = "";
  sessionStorage.removeItem(STORED_KEY);
  at("leave").hidden = true;
  say(at("login-fault"), message || "");
  connection("the key is wanted", false);
  show("login");
  at("key").focus();
}

// Reads the stream of pictures until it ends, and then again, with growing pauses.
async function watch() {
  if (stream) stream.abort();
  const mine = (stream = new AbortController());
  let pause = 500;
  while (!mine.signal.aborted) {
    try {
      const answer = await ask("/live/events", mine.signal);
      at("leave").hidden = !key;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || rest.length > LARGEST_EVENT) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        const last = events.pop();
        if (last === undefined || mine.signal.aborted) continue;
        const data = last.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        pause = 500;
        arrived(JSON.parse(data));
      }
      reader.cancel().catch(() => {});
    } catch (fault) {
      if (mine.signal.aborted) return;
      if (fault instanceof Refused && fault.status === 401) {
        wantKey(key ? "The node refuses this key." : "");
        return;
      }
      console.info(`the stream broke off: ${fault.message}`);
    }
    if (mine.signal.aborted) return;
    connection("not connected: trying again", true);
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(10000, 2 * pause);
  }
}

function arrived(fresh) {
  past.push(fresh.rates);
  if (past.length > PICTURES_KEPT) past.shift();
  picture = fresh;
  if (held) return;
  connection("live", false);
  drawHead();
  draw();
}

// ---------------------------------------------------------------- pages

function where() {
  const [, page, name] = /^#\/(\w*)\/?(.*)$/s.exec(location.hash) || [];
  try {
    return { page: PAGES.includes(page) && page !== "login" ? page : "overview", name: decodeURIComponent(name || "") };
  } catch {
    return { page: "overview", name: "" };
  }
}

function show(page) {
  for (const id of PAGES) at(id).hidden = id !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function drawHead() {
  const p = picture;
  const slow = p.time_scale === 1 ? "" : ` · emulated, its second takes ${p.time_scale} s`;
  const state = p.state === "ready" ? `up for ${seconds(p.uptime_s)}` : `${p.state}: ${p.phase}`;
  say(at("node"), `${p.node} · ${p.profile} · ${p.engine} · policy ${p.policy} · ${state}${slow}`);
  document.title = `thunderctl: ${p.node}`;
}

function draw() {
  if (!at("login").hidden) at("login").hidden = true;
  const { page, name } = where();
  show(page);
  if (page === "overview" && picture) drawOverview(picture);
  else if (page === "program") refresh(() => drawProgram(name));
  else if (page === "decisions") refresh(drawDecisions);
}

// One question at a time: a slow answer must not pile further ones up behind it.
async function refresh(work) {
  if (refreshing) return;
  refreshing = true;
  try {
    await work();
  } catch (fault) {
    if (fault instanceof Refused && fault.status === 401) wantKey("The node refuses this key.");
    else console.info(`could not be drawn: ${fault.message}`);
  } finally {
    refreshing = false;
  }
}

function drawOverview(p) {
  const curve = (name) => past.map((r) => r[name]);
  const failed = p.tally.failed + p.tally.rejected + p.tally.overload;
  terms(at("figures"), [
    ["steps/min", rate(p.rates.steps_per_min), "", curve("steps_per_min")],
    ["output tokens/s", rate(p.rates.output_tokens_per_s), "", curve("output_tokens_per_s")],
    ["prompt tokens/s", rate(p.rates.prompt_tokens_per_s), "", curve("prompt_tokens_per_s")],
    ["cache hit rate", percent(p.rates.hit_rate), "", curve("hit_rate")],
    ["steps so far", count(p.tally.finished)],
    ["calls failed or refused", count(failed)],
  ]);

  const states = p.programs;
  const of = Math.max(1, states.total);
  const names = [["reasoning", "reasoning"], ["acting", "acting"], ["waiting", "waiting for a place"], ["paused", "paused while acting"]];
  const told = names.map(([name, words]) => `${count(states[name])} ${words}`).join(", ");
  bar(at("programs-bar"), names.map(([name]) => [name, states[name] / of]), `${count(states.total)} programs: ${told}`);
  terms(at("programs-states"), [
    ...names.map(([name, words]) => [words, count(states[name]), name]),
    ["all", count(states.total)],
  ]);

  const queue = p.queue;
  say(at("queue-says"), queue.programs ? `${count(queue.programs)} programs wait, with ${count(queue.held_calls)} calls. Longest:` : "Nobody waits.");
  each(at("queue-longest"), queue.longest, (item) => item.program, () => {
    const entry = make("li");
    entry.append(make("a"), make("span", "quiet"));
    return entry;
  }, (entry, item) => {
    linkTo(entry.firstChild, item.program);
    say(entry.lastChild, ` ${seconds(item.waiting_s)}, ${count(item.tokens)} tokens`);
  });

  const environments = p.environments;
  const disk = environments.disk;
  terms(at("environments-says"), [
    ["back-end", environments.backend || "not ready yet"],
    ...Object.entries(environments.leases).map(([state, n]) => [state.replace("_", " "), count(n)]),
    ...(disk ? [["on disk now", bytes(disk.bytes_now)], ...Object.entries(disk.by_kind).filter(([, n]) => n).map(([kind, n]) => [kind, bytes(n)]), ["collected so far", bytes(disk.collected_bytes)]] : []),
    ...(environments.notice ? [["note", environments.notice]] : []),
  ]);

  say(at("troubles-says"), p.troubles.length ? `${count(p.tally.failed)} calls failed, ${count(p.tally.rejected + p.tally.overload)} were refused.` : "None.");
  each(at("troubles-latest"), p.troubles, (item, place) => place, () => make("li"), (entry, item) => say(entry, `${clock(item.at)} ${item.level}: ${item.text}`));

  rows(at("workers"), p.workers, (w) => w.name, (w) => {
    const room = w.capacity_tokens || 0;
    const used = w.reasoning_tokens + w.faded_acting_tokens;
    const share = room ? used / room : 0;
    return [
      w.name, w.state,
      { bar: room ? [["reasoning", w.reasoning_tokens / room], ["acting", w.faded_acting_tokens / room]] : [], label: `${percent(share)} of the KV capacity of ${w.name} is reserved` },
      { number: room ? percent(share) : "" }, { number: count(w.reasoning_tokens) }, { number: count(w.acting_tokens) }, { number: count(w.capacity_tokens) },
      { number: count(w.programs) }, { number: count(w.engine_running) }, { number: count(w.engine_waiting) },
    ];
  });

  rows(at("latest"), p.latest, (one) => one.program, (one) => [
    { program: one.program }, one.status, one.phase, { number: seconds(one.in_phase_s) }, one.tool, one.worker || "",
    { number: count(one.tokens) }, { number: count(one.steps) }, { number: count(one.pauses) },
  ]);
}

const SENTENCES = {
  call: (e) => {
    const waited = e.held_s >= 0.05 ? `waited ${seconds(e.held_s)}, then ` : "";
    if (e.outcome === "answered") {
      return `${waited}${e.worker} answered in ${seconds(e.seconds - e.held_s)}: ${count(e.prompt_tokens)} tokens in (${count(e.cached_tokens)} cached), ${count(e.output_tokens)} out`;
    }
    return `${waited}its call was ${e.outcome} after ${seconds(e.seconds)}${e.worker ? ` on ${e.worker}` : ""}`;
  },
  tool: (e) => `a tool ran for ${seconds(e.seconds)}`,
  paused: (e) => `paused: its ${count(e.tokens)} tokens on ${e.worker} were given up: ${e.reason}`,
  restored: (e) => `placed on ${e.worker} (${count(e.tokens)} tokens)${e.waited_s >= 0.05 ? ` after waiting ${seconds(e.waited_s)}` : ""}${e.moved ? ", away from its cache" : ""}${e.forced ? ", although it did not fit" : ""}: ${e.reason}`,
  refused: (e) => `a call was refused (${e.status}): ${e.reason}`,
  "environment ordered": (e) => (e.early ? "its environment is prepared ahead" : "its environment is prepared"),
  ended: () => "ended: released, or silent for too long",
};

async function drawProgram(name) {
  const title = at("program-title");
  if (title.textContent !== name) {
    say(title, name);
    for (const id of ["program-timeline", "program-decisions", "program-figures", "program-strip"]) at(id).replaceChildren();
  }
  let found;
  try {
    found = await askJson(`/programs/${encodeURIComponent(name)}`);
  } catch (fault) {
    if (!(fault instanceof Refused) || fault.status === 401) throw fault;
    say(at("program-fault"), fault.message);
    return;
  }
  if (where().name !== name) return;
  say(at("program-fault"), "");
  const over = found.state === "terminated";
  terms(at("program-figures"), over ? [["state", "ended"]] : [
    ["state", found.state], ["phase", `${found.status} for ${seconds(found.in_phase_s)}`], ["worker", found.backend || "none"],
    ["tokens", count(found.total_tokens)], ["steps", count(found.step_count)], ["pauses", count(found.pauses)],
    ["waited in all", seconds(found.waited_s)],
  ]);
  const timeline = found.timeline;
  drawStrip(timeline, picture ? picture.time_scale : 1);
  const left = found.timeline_left_out;
  const shown = [...timeline.map((e, place) => ({ ...e, number: left + place })).reverse(), ...(left ? [{ what: "", number: -1 }] : [])];
  rows(at("program-timeline"), shown, (e) => e.number, (e) => (e.number < 0
    ? ["", { long: `${count(left)} earlier entries are not kept` }]
    : [clock(e.at), { long: (SENTENCES[e.what] || (() => e.what))(e) }]));
  const decided = await askJson(`/decisions?last=100&program=${encodeURIComponent(name)}`);
  if (where().name !== name) return;
  rows(at("program-decisions"), decided.reverse(), (d) => d.n, (d) => decision(d));
}

const decision = (d) => [
  clock(d.at), d.effect.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase(), d.worker || "",
  { number: d.tokens === undefined ? "" : count(d.tokens) }, { long: d.reason || "" },
];

async function drawDecisions() {
  const found = await askJson("/decisions?last=100");
  rows(at("decisions-latest"), found.reverse(), (d) => d.n, (d) => {
    const [time, ...others] = decision(d);
    return [time, { program: d.program }, ...others];
  });
}

// The timeline as a strip: what the program did when, as far back as its entries go.
function drawStrip(timeline, scale) {
  const spans = [];
  let pausedAt = null;
  for (const e of timeline) {
    const long = (e.seconds || 0) * scale;
    if (e.what === "call") {
      const wait = Math.min(long, e.held_s * scale);
      if (wait > 0) spans.push(["waiting", e.at - long, e.at - long + wait]);
      spans.push(["reasoning", e.at - long + wait, e.at]);
    } else if (e.what === "tool") spans.push(["acting", e.at - long, e.at]);
    else if (e.what === "paused") pausedAt = e.at;
    else if (e.what === "restored" && pausedAt !== null) {
      spans.unshift(["paused", pausedAt, e.at]);
      pausedAt = null;
    }
  }
  const holder = at("program-strip");
  if (!spans.length) {
    holder.replaceChildren();
    return;
  }
  const first = Math.min(...spans.map((s) => s[1]));
  const last = Math.max(...spans.map((s) => s[2]));
  const wide = Math.max(1e-3, last - first);
  const signature = `${spans.length} ${first} ${last}`;
  if (holder.dataset.shows === signature && holder.firstChild) return;
  holder.dataset.shows = signature;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1000 44");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `The last ${seconds(wide)} as a strip; the table below says the same in words`);
  for (const [kind, from, to] of spans) {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("class", kind);
    rect.setAttribute("x", (1000 * (from - first) / wide).toFixed(2));
    rect.setAttribute("width", Math.max(1, 1000 * (to - from) / wide).toFixed(2));
    rect.setAttribute("y", kind === "paused" ? 36 : 4);
    rect.setAttribute("height", kind === "paused" ? 6 : 28);
    svg.append(rect);
  }
  holder.replaceChildren(svg);
}

async function find(name) {
  const known = Object.keys(await askJson("/programs"));
  if (known.includes(name)) {
    location.hash = `#/program/${encodeURIComponent(name)}`;
    return;
  }
  const found = known.filter((one) => one.toLowerCase().includes(name.toLowerCase()));
  say(at("found-says"), `${count(found.length)} of ${count(known.length)} programs have “${name}” in their names${found.length > 100 ? "; the first 100" : ""}.`);
  each(at("found-names"), found.slice(0, 100), (one) => one, () => {
    const entry = make("li");
    entry.append(make("a"));
    return entry;
  }, (entry, one) => linkTo(entry.firstChild, one));
  if (where().page === "found") arrive();
  else location.hash = "#/found";
}

// ---------------------------------------------------------------- what a person does

// A new page begins at its heading, for eyes and for screen readers.
function arrive() {
  draw();
  const title = at(`${where().page}-title`);
  if (title) title.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

window.addEventListener("hashchange", () => {
  if (at("login").hidden) arrive();
});
at("find").addEventListener("submit", (event) => {
  event.preventDefault();
  if (at("login").hidden) refresh(() => find(at("find-name").value.trim()));
});
at("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  sessionStorage.setItem(STORED_KEY, key);
  begin();
});
at("leave").addEventListener("click", () => wantKey("Forgotten."));
at("hold").addEventListener("click", () => {
  held = !held;
  at("hold").setAttribute("aria-pressed", String(held));
  if (held) connection("updates are paused", false);
  else if (picture) {
    connection("live", false);
    drawHead();
    draw();
  }
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // addresses after # are pages here
  at("main").focus();
});
document.addEventListener("visibilitychange", () => {
  if (!at("login").hidden) return;
  if (document.hidden) {
    if (stream) stream.abort();
  } else watch();
});

async function begin() {
  try {
    const health = await askJson("/health"); // open to everybody, and it says whether the rest is
    if (health.wants_key && !key) return wantKey("");
  } catch { /* the stream will say what is wrong, and try again */ }
  connection("connecting", false);
  at("login").hidden = true;
  watch();
}

begin();
