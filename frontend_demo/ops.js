// The operators' console: reads what /ops/… shows, follows the operators' feed, sets modes, holds the batch. The token is never stored.

import { Api, Trouble } from "./api.js";
import { Feed } from "./feed.js";
import * as draw from "./ops-view.js";
import { troubleWords, words } from "./ops-words.js";
import { $, show, trouble as shout } from "./view.js";
import { currentLanguage, speak } from "./words.js";

const OPERATORS = { path: "/ops/events", channel: "ops" };
const EVERY = { breakers: 5_000, batch: 5_000, alerts: 10_000, done: 10_000, traffic: 60_000 }; // milliseconds between two looks
const SOON = 150; // milliseconds in which events are gathered

const desk = { api: null, feed: null, timers: [], names: new Map(), known: {}, soon: null, line: "off" };

// --- looking ----------------------------------------------------------------------------------------------------------

const LOOKS = {
  breakers: (api) => api.ask("GET", "/ops/breakers").then((body) => body.breakers),
  batch: (api) => api.ask("GET", "/ops/batch").catch(absent),
  alerts: (api) => api.ask("GET", "/ops/alerts?limit=10").then((body) => body.alerts, absent),
  done: (api) => api.ask("GET", "/ops/breakers/history?limit=20"),
  traffic: (api) => api.ask("GET", "/ops/traffic").catch(absent),
};

function absent(trouble) {
  if (trouble.status === 404) return null;
  throw trouble;
}

async function look(what, api = desk.api) {
  try {
    const found = await LOOKS[what](api);
    if (desk.api !== api) return;
    desk.known[what] = found;
    if (what === "breakers") for (const each of found) desk.names.set(each.org_code, each.name);
    shout("");
    paint(what);
  } catch (trouble) {
    if (desk.api === api) failed(trouble);
  }
}

function failed(trouble) {
  shout(troubleWords(trouble));
  if (trouble.status === 401 || trouble.code === "scope_missing") leave({ keep: true });
}

function paint(what) {
  const found = desk.known[what];
  if (found === undefined) return;
  if (what === "breakers") draw.breakers(found, $("every").checked, askMode);
  if (what === "batch") draw.batch(found, desk.names, askBatch);
  if (what === "alerts") draw.alerts(found ?? [], desk.names);
  if (what === "done") draw.done(found, desk.names);
  if (what === "traffic" && found) draw.traffic(found);
}

// --- entering and leaving ---------------------------------------------------------------------------------------------

async function enter(token) {
  const api = new Api("operator");
  api.given = token;
  desk.api = api;
  shout("");
  try {
    const { epoch, offset } = await api.ask("GET", "/ops/events");
    await look("breakers", api);
    if (desk.api !== api) return;
    follow(api, { epoch, offset });
  } catch (trouble) {
    return failed(trouble);
  }
  show("token-form", false);
  show("desk");
  show("leave");
  for (const what of Object.keys(LOOKS)) {
    if (what !== "breakers") look(what, api);
    desk.timers.push(setInterval(() => !document.hidden && look(what, api), EVERY[what]));
  }
}

function follow(api, position) {
  const hooks = {
    token: () => api.token(),
    event: (event) => desk.api === api && happened(event),
    lost: async () => {
      const { epoch, offset } = await api.ask("GET", "/ops/events");
      lookSoon();
      return { epoch, offset };
    },
    line: (state) => { if (desk.api === api) line(state); },
    trouble: (trouble) => shout(troubleWords(trouble)),
  };
  desk.feed = new Feed(hooks, new URLSearchParams(location.search).get("transport"), OPERATORS);
  desk.feed.follow(position);
}

function leave({ keep = false } = {}) {
  desk.feed?.stop();
  desk.timers.forEach(clearInterval);
  Object.assign(desk, { api: null, feed: null, timers: [], known: {}, names: new Map() });
  for (const id of ["desk", "leave"]) show(id, false);
  show("token-form");
  if (!keep) shout("");
  line("off");
}

function line(state) {
  desk.line = state;
  $("line").dataset.state = state;
  $("line").textContent = words().line[state];
}

// --- what happens -----------------------------------------------------------------------------------------------------

function happened(event) {
  const name = desk.names.get(event.org_code) ?? event.org_code ?? "";
  $("said").textContent = words().saidEvent(name, words().state[event.data.state] ?? event.type);
  lookSoon();
}

/** Several circuits of one institution change at once: they are looked at once. */
function lookSoon() {
  clearTimeout(desk.soon);
  desk.soon = setTimeout(() => desk.api && ["breakers", "alerts", "done"].forEach((what) => look(what)), SOON);
}

// --- what the operator does -------------------------------------------------------------------------------------------

function ask(title, yes) {
  $("ask-title").textContent = title;
  $("ask-note").textContent = words().askNote;
  $("ask-yes").textContent = yes;
  $("reason").value = "";
  $("ask").returnValue = "";
  $("ask").showModal();
  return new Promise((resolve) => {
    $("ask").addEventListener("close", () => resolve($("ask").returnValue === "yes" ? $("reason").value.trim() : null), { once: true });
  });
}

async function askMode(code, name, mode) {
  const reason = await ask(words().askMode(name, words().act[mode]), words().act[mode]);
  if (reason) await act(["PUT", `/ops/breakers/${encodeURIComponent(code)}`, { mode, reason }], ["breakers", "done"]);
}

async function askBatch(deed, code) {
  const whom = code === null ? words().batch : desk.names.get(code) ?? code;
  const reason = await ask(words().askMode(whom, words()[deed]), words()[deed]);
  if (reason) await act(["POST", `/ops/batch/${deed}`, { reason, ...(code === null ? {} : { org_code: code }) }], ["batch", "done"]);
}

async function act(request, looks) {
  try {
    await desk.api.ask(...request);
    await Promise.all(looks.map((what) => look(what)));
  } catch (trouble) {
    failed(trouble instanceof Trouble ? trouble : new Trouble({ code: "unreachable" }));
  }
}

// --- begin ------------------------------------------------------------------------------------------------------------

function use(language) {
  speak(language);
  document.documentElement.lang = currentLanguage();
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words()[node.dataset.word];
  document.title = words().console;
  $("language").textContent = words().language;
  line(desk.line);
  Object.keys(LOOKS).forEach(paint);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  enter(token);
});
$("leave").addEventListener("click", () => leave());
$("every").addEventListener("change", () => paint("breakers"));
$("ask-no").addEventListener("click", () => $("ask").close());
$("language").addEventListener("click", () => use(currentLanguage() === "ko" ? "en" : "ko"));
use(navigator.language.startsWith("ko") ? "ko" : "en");
