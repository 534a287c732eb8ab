// Everything that is drawn. Text from outside becomes text nodes only; addresses from outside must be http or https.

import { ended, groups, isOver } from "./state.js";
import { clockTime, duration, figure, money, words } from "./words.js";

const INDUSTRIES = ["bank", "card", "invest", "insu", "efin", "capital", "telecom"];
const SHOWN = 4; // assets of a card before "more"
const PATIENCE = 900; // milliseconds that a signature may take before anybody is asked for it

export const $ = (id) => document.getElementById(id);

/** A node with attributes, properties and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "dataset") Object.assign(node.dataset, value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function show(id, shown = true) {
  $(id).hidden = !shown;
}

export function trouble(text) {
  $("trouble").textContent = text;
  show("trouble", text !== "");
}

// --- choosing ---------------------------------------------------------------------------------------------------------

/** Up to `count`: the first of each industry, then the second of each, and so on. */
export function someOfEach(providers, count) {
  const turns = new Map();
  const ranked = providers.map((provider) => {
    turns.set(provider.industry, (turns.get(provider.industry) ?? 0) + 1);
    return [turns.get(provider.industry), provider.org_code];
  });
  return new Set(ranked.sort((a, b) => a[0] - b[0]).slice(0, count).map(([, code]) => code));
}

export function chooser(providers, chosen) {
  const sections = byIndustry(providers).map(([industry, group]) =>
    el("fieldset", { className: "industry", dataset: { industry } }, el("legend", {}, words().industry[industry] ?? industry), ...group.map((provider) => chip(provider, chosen))),
  );
  $("industries").replaceChildren(...sections);
  counted(chosen);
}

function chip(provider, chosen) {
  const box = el("input", { type: "checkbox", value: provider.org_code, checked: chosen.has(provider.org_code) });
  return el("label", { className: "chip" }, box, el("span", {}, provider.name));
}

export function counted(chosen) {
  $("connect").textContent = words().connect(chosen.size);
  $("connect").disabled = chosen.size === 0;
}

function byIndustry(providers) {
  const order = (industry) => (INDUSTRIES.indexOf(industry) + 99) % 99; // unknown ones last
  const found = Map.groupBy ? Map.groupBy(providers, (each) => each.industry) : grouped(providers);
  return [...found].sort(([a], [b]) => order(a) - order(b));
}

function grouped(providers) {
  const found = new Map();
  for (const each of providers) found.set(each.industry, [...(found.get(each.industry) ?? []), each]);
  return found;
}

// --- one registration -------------------------------------------------------------------------------------------------

const cards = new Map(); // org_code -> {node, key, shown: ids of its assets}

export function forgetCards() {
  cards.clear();
  $("cards").replaceChildren();
}

export function run(registration, wallet, now) {
  const providers = byIndustry([...registration.providers.values()]).flatMap(([, group]) => group);
  const [done, all, over] = [ended(registration), providers.length, isOver(registration)];
  $("run-title").textContent = title(registration, providers, done);
  progress(over ? all : done, all, registration.status);
  tiles(registration.marks);
  signature(registration, now);
  for (const provider of providers) card(provider, over, wallet);
  const deferred = providers.some((provider) => provider.status === "deferred");
  show("cancel", !over || (deferred && registration.status === "partial"));
  show("retry", over && providers.some((provider) => provider.status === "failed" && provider.error?.retryable !== false));
  show("again", over);
}

function title(registration, providers, done) {
  const said = words().run;
  if (registration.status === "signing") return said.signing;
  if (registration.status === "collecting") return said.collecting(done, providers.length);
  if (registration.status === "completed") return said.completed(providers.reduce((sum, each) => sum + each.assets, 0));
  if (registration.status === "partial") return said.partial(providers.filter((each) => each.status === "completed").length, providers.length);
  return said[registration.status] ?? registration.status;
}

/** Before the server has answered. */
export function sending(all) {
  $("run-title").textContent = words().run.sending;
  progress(0, all, "sending");
  tiles({});
  for (const id of ["signature", "cancel", "retry", "again"]) show(id, false);
}

function progress(done, all, state) {
  const bar = $("progress");
  bar.setAttribute("aria-valuemax", all);
  bar.setAttribute("aria-valuenow", done);
  bar.dataset.state = state;
  bar.firstElementChild.style.transform = `scaleX(${all ? done / all : 0})`;
}

function tiles(marks) {
  const since = (end, begin) => (end === undefined || begin === undefined ? null : end - begin);
  const figures = {
    accepted: since(marks.accepted, marks.asked),
    signed: since(marks.signed, marks.accepted),
    first: since(marks.first, marks.signed),
    last: since(marks.last, marks.signed),
  };
  const tile = ([name, ms]) =>
    el("div", { className: "tile", dataset: { known: ms !== null } },
      el("dt", {}, words().timing[name]),
      el("dd", { className: "figure", id: `timing-${name}` }, ms === null ? "–" : duration(ms)),
      el("dd", { className: "note" }, words().timingNote[name]));
  $("timings").replaceChildren(...Object.entries(figures).map(tile));
}

function signature({ status, signature: asked, marks }, now) {
  const waiting = status === "signing" && asked.status === "requested" && (marks.requested === undefined || now - marks.requested > PATIENCE);
  const address = webAddress(asked.web_url);
  if (waiting) {
    $("signature-words").textContent = words().signLead(clockTime(asked.expires_at));
    if (address) $("signature-link").href = address;
    $("signature-link").hidden = !address;
  }
  if (waiting !== !$("signature").hidden) show("signature", waiting);
}

function webAddress(text) {
  try {
    const address = new URL(text);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

function card(provider, over, wallet) {
  const assets = provider.seen.size || provider.status === "completed" ? [...wallet.values()].filter((asset) => asset.org_code === provider.org_code) : [];
  const known = cards.get(provider.org_code);
  const key = JSON.stringify([provider.status, over, provider.error, provider.retry_at, document.documentElement.lang, assets]);
  if (known?.key === key) return;
  const open = known?.node.querySelector("details")?.open ?? false;
  const node = el("li", { className: "card", dataset: { industry: provider.industry, status: provider.status, over, code: provider.org_code } },
    el("div", { className: "card-head" },
      el("span", { className: "mark", ariaHidden: "true" }, [...provider.name][0] ?? ""),
      el("div", { className: "who" }, el("h3", {}, provider.name), el("p", {}, words().industry[provider.industry] ?? provider.industry)),
      el("span", { className: "status" }, words().status[provider.status] ?? provider.status)),
    ...body(provider, { assets, before: known?.shown ?? new Set() }, over, open));
  if (known) known.node.replaceWith(node);
  else $("cards").append(node);
  cards.set(provider.org_code, { node, key, shown: new Set(assets.map((asset) => asset.id)) });
}

function body(provider, { assets, before }, over, open) {
  if (provider.status === "failed" && provider.error) {
    return [el("p", { className: "why" }, words().error(provider.error)), el("p", { className: "hint" }, words().action[provider.error.user_action] ?? "")];
  }
  if (provider.status === "deferred") return [el("p", { className: "hint" }, words().deferred(clockTime(provider.retry_at)))];
  if (assets.length) return [assetList(assets.slice(0, SHOWN), before), ...(assets.length > SHOWN ? [more(assets.slice(SHOWN), before, open)] : [])];
  if (provider.status === "completed") return [el("p", { className: "hint" }, words().noAssets)];
  return over ? [] : [el("div", { className: "bones", ariaHidden: "true" }, el("i"), el("i"))];
}

function more(assets, before, open) {
  return el("details", { open }, el("summary", {}, words().more(assets.length)), assetList(assets, before));
}

function assetList(assets, before) {
  return el("ul", { className: "assets" }, ...assets.map((asset) =>
    el("li", { className: before.has(asset.id) ? "" : "new" },
      el("span", { className: "name" }, asset.name, el("small", {}, asset.number_masked.replace(/\*{5,}/, "····"))),
      worth(asset))));
}

/** The balance; for what has none, the figure that people look for, or at least what it is. */
function worth({ kind, balance, details }) {
  const told = (text) => el("span", { className: "worth" }, text);
  if (balance) return told(money(balance.amount, balance.currency));
  if (kind === "point" && details.remain_point_amt !== undefined) return told(words().points(figure(details.remain_point_amt)));
  const monthly = { insurance: details.pay_amt, telecom: details.charge_amt }[kind];
  if (monthly !== undefined) return told(words().monthly(money(monthly, "KRW")));
  return el("span", { className: "worth none" }, words().kind[kind] ?? kind);
}

// --- sums -------------------------------------------------------------------------------------------------------------

export function sums(wallet) {
  show("sums", wallet.size > 0);
  const drawn = Object.entries(groups(wallet)).map(([name, group]) =>
    el("article", { className: "group", dataset: { group: name } },
      el("h3", {}, words().group[name]),
      el("p", { className: "note" }, words().groupNote[name]),
      el("p", { className: "total" }, total(name, group)),
      name === "home" && group.net !== group.won ? el("p", { className: "net" }, words().net(money(group.net, "KRW"))) : null,
      group.rows.length ? el("dl", {}, ...group.rows.map(kindRow)) : el("p", { className: "hint" }, words().nothingHere)));
  $("groups").replaceChildren(...drawn);
}

function total(name, group) {
  if (name === "payment") return words().count(figure(group.rows.reduce((count, row) => count + row.count, 0)));
  return name === "spending" ? words().monthly(money(group.won, "KRW")) : money(group.won, "KRW");
}

function kindRow({ kind, count, sums: amounts }) {
  const told = [...amounts].map(([currency, amount]) => (currency === "P" ? words().points(figure(amount)) : money(amount, currency)));
  return el("div", {}, el("dt", {}, words().kind[kind] ?? kind, el("small", {}, words().count(figure(count)))), el("dd", {}, told.join(" · ")));
}

// --- telling ----------------------------------------------------------------------------------------------------------

export function line(state) {
  $("line").dataset.state = state;
  $("line").textContent = words().line[state];
}

let saying = [];
let sayingSoon = null;

/** For screen readers: a few sentences at once rather than one after the other. */
export function say(sentence) {
  saying.push(sentence);
  sayingSoon ??= setTimeout(() => {
    $("said").textContent = saying.join(". ");
    [saying, sayingSoon] = [[], null];
  }, 1000);
}
