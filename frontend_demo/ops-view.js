// What the operators' console draws. Text from outside becomes text nodes only.

import { words } from "./ops-words.js";
import { currentLanguage } from "./words.js";
import { $, el } from "./view.js";

const number = (value) => el("td", { className: "number" }, value);
const count = (value) => number(value === undefined ? "" : value.toLocaleString(currentLanguage()));
const moment = (text) => (text ? new Date(text).toLocaleString(currentLanguage(), { dateStyle: "short", timeStyle: "medium" }) : "");

export function head(id, columns, numbers = []) {
  const cells = columns.map((word, place) => el("th", { scope: "col", className: numbers.includes(place) ? "number" : "" }, word));
  $(id).replaceChildren(el("tr", {}, ...cells));
}

function fill(id, rows, columns, empty) {
  $(id).replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { className: "nothing", colSpan: columns.length }, empty))]));
}

function button(word, deed, attributes = {}) {
  return el("button", { type: "button", className: "quiet", onclick: deed, ...attributes }, word);
}

// --- breakers ---------------------------------------------------------------------------------------------------------

/** Those that are not as usual first; `every`: also the others. `act(org_code, name, mode)`. */
export function breakers(found, every, act) {
  const usual = (each) => each.state === "closed" && each.mode === "auto" && !each.left_out;
  const shown = [...found.filter((each) => !usual(each)), ...(every ? found.filter(usual) : [])];
  const columns = words().breakerColumns;
  head("breakers-head", columns, [5, 6]);
  fill("breakers", shown.map((each) => breaker(each, act)), columns, words().noBreakers);
}

function breaker(each, act) {
  const others = Object.keys(words().act).filter((mode) => mode !== each.mode);
  const acts = others.map((mode) => button(words().act[mode], () => act(each.org_code, each.name, mode), { dataset: { act: mode } }));
  const bad = each.left_out ? el("small", {}, `${words().kind.bad_node}: ${each.left_out.join(", ")}`) : null;
  return el("tr", { dataset: { code: each.org_code, scope: each.scope, state: each.state, mode: each.mode } },
    el("td", {}, each.name, el("small", {}, each.org_code)), el("td", {}, words().scope[each.scope] ?? each.scope),
    el("td", {}, el("span", { className: "state", dataset: { state: each.state } }, words().state[each.state])),
    el("td", {}, words().mode[each.mode]), el("td", { className: "words" }, each.reason, ...(bad ? [bad] : [])),
    number(each.failure_rate === undefined ? "" : `${each.failure_rate} %`), count(each.calls),
    el("td", {}, moment(each.since)), el("td", {}, ...acts));
}

// --- batch ------------------------------------------------------------------------------------------------------------

/** null: this server has none. `steer("pause" or "resume", org_code or null)`. */
export function batch(found, names, steer) {
  const columns = words().batchColumns;
  head("batch-head", columns, [1, 2, 3, 4, 5, 6, 7, 9]);
  const rows = (found?.providers ?? []).filter((each) => each.due || each.done || each.planned_today || each.paused);
  fill("batch", rows.map((each) => batchOf(each, names, steer)), columns, found ? words().nothing : words().noBatch);
  $("batch-note").textContent = found ? `${words().week(found.week)}. ${found.paused ? words().paused : ""}` : "";
  const all = found ? (found.paused ? ["resume", words().resumeAll] : ["pause", words().pauseAll]) : null;
  $("batch-all").replaceChildren(...(all ? [button(all[1], () => steer(all[0], null), { id: "batch-steer" })] : []));
}

function batchOf(each, names, steer) {
  const deed = each.paused ? "resume" : "pause";
  return el("tr", { dataset: { code: each.org_code, paused: String(Boolean(each.paused)) } },
    el("td", {}, names.get(each.org_code) ?? each.org_code, el("small", {}, each.org_code)),
    ...["due", "done", "failed", "skipped", "unknown", "planned_today", "pace_per_minute"].map((name) => count(each[name])),
    el("td", {}, moment(each.finish_estimate)), number(each.lag_seconds >= 1 ? words().seconds(Math.round(each.lag_seconds)) : ""),
    el("td", {}, button(words()[deed], () => steer(deed, each.org_code), { dataset: { act: deed } })));
}

// --- traffic ----------------------------------------------------------------------------------------------------------

export function traffic(found) {
  const columns = words().trafficColumns;
  head("traffic-head", columns, [1, 2, 3]);
  $("traffic-note").textContent = words().compared(found.date, found.compared_with);
  const flame = { flame: " 🔥", drop: " ▼" };
  const rows = found.categories.map((each) => el("tr", { dataset: { industry: each.industry } },
    el("td", {}, words().industry[each.industry] ?? each.industry), count(each.calls), count(each.before),
    number(each.ratio === undefined ? "" : `${each.ratio.toFixed(2)}x${flame[each.mark] ?? ""}`),
    el("td", { className: "words" }, each.cause ? each.cause.name : "")));
  fill("traffic", rows, columns, words().nothing);
}

// --- alerts, actions --------------------------------------------------------------------------------------------------

export function alerts(found, names) {
  const lines = found.map((each) => {
    const about = names.get(each.facts.org_code) ?? each.facts.org_code ?? each.facts.queue ?? each.facts.node ?? each.facts.sweep ?? "";
    return el("li", { dataset: { open: String(!each.closed_at), kind: each.kind } },
      el("strong", {}, words().kind[each.kind] ?? each.kind), el("span", {}, about, each.facts.reason ? ` · ${each.facts.reason}` : ""),
      el("time", {}, moment(each.opened_at)), el("span", { className: "who" }, each.closed_at ? words().over(moment(each.closed_at)) : ""));
  });
  lists("alerts", lines, words().noAlerts);
}

export function done({ actions, decisions }, names) {
  const told = [...actions.map((each) => [each.at, each.action, each.reason, each.who, each.org_code]),
    ...decisions.map((each) => [each.at, `${words().scope[each.scope]} ${words().state[each.state]}`, each.reason, "", each.org_code])];
  told.sort(([one], [other]) => (one < other ? 1 : -1));
  const lines = told.slice(0, 20).map(([at, what, reason, who, code]) => el("li", {},
    el("time", {}, moment(at)), el("strong", {}, names.get(code) ?? code), el("span", {}, what), el("span", {}, reason), el("span", { className: "who" }, who)));
  lists("done", lines, words().nothing);
}

function lists(id, lines, empty) {
  $(id).replaceChildren(...(lines.length ? lines : [el("li", { className: "nothing" }, empty)]));
}
