// The page: enters as a person, follows their feed, begins, retries and cancels registrations. Nothing is stored but the language.

import { Api } from "./api.js";
import { Feed } from "./feed.js";
import { fold, foldAssets, fromSnapshot, isOver } from "./state.js";
import * as view from "./view.js";
import { currentLanguage, speak, troubleWords, words } from "./words.js";

const { $ } = view;
const AT_FIRST = 10; // providers that are chosen when the page opens
const asked = new URLSearchParams(location.search);

const page = {
  api: null, feed: null, providers: [], chosen: new Set(), registration: null, wallet: new Map(),
  early: null, // events that come while a registration is being sent; null: none is
  trouble: null, painted: false, line: "off",
};

// --- entering ---------------------------------------------------------------------------------------------------------

async function enter(user, given = null) {
  page.feed?.stop();
  Object.assign(page, { api: new Api(user), feed: null, registration: null, wallet: new Map(), early: null });
  page.api.given = given;
  const { api } = page;
  for (const id of ["token-form", "chooser", "run", "sums"]) view.show(id, false);
  try {
    const [providers, { registration, position }] = await Promise.all([api.providers(), api.newest()]);
    const assets = await api.assets();
    if (page.api !== api) return; // somebody else has entered meanwhile
    Object.assign(page, { providers, wallet: new Map(assets.map((asset) => [asset.id, asset])) });
    page.chosen = view.someOfEach(providers, AT_FIRST);
    tell(null);
    follow(api, position);
    if (registration && (!isOver(registration) || registration.providers.some((each) => each.status === "deferred"))) watch(registration);
    else choose();
    paint();
  } catch (trouble) {
    if (page.api === api) notEntered(trouble, user, given);
  }
}

function notEntered(trouble, user, given) {
  const refused = trouble.code === "token_needed" || (given && trouble.status === 401);
  view.show("token-form", refused);
  tell(trouble.code === "token_needed" ? null : trouble);
  if (trouble.code === "unreachable") setTimeout(() => page.api?.user === user && !page.feed && enter(user, given), 3000);
}

function follow(api, position) {
  const hooks = {
    token: (fresh) => api.token(fresh),
    event: (event, offset) => page.api === api && happened(event, offset),
    lost: () => reread(api),
    line: (state) => { if (page.api === api) { page.line = state; view.line(state); } },
    trouble: tell,
  };
  page.feed = new Feed(hooks, asked.get("transport"));
  page.feed.follow(position);
}

/** The position is read first, so that the events after it complete what is read then. */
async function reread(api) {
  const { position } = await api.newest();
  const [snapshot, assets] = await Promise.all([page.registration && api.registration(page.registration.id), api.assets()]);
  if (page.api === api) {
    page.wallet = new Map(assets.map((asset) => [asset.id, asset]));
    if (snapshot) page.registration = fromSnapshot(snapshot, page.registration.marks);
    paint();
  }
  return position;
}

// --- what happens -----------------------------------------------------------------------------------------------------

function happened(event, offset) {
  const now = performance.now();
  const inWallet = foldAssets(page.wallet, event);
  const ours = page.registration ? fold(page.registration, event, now) : false;
  if (!ours && page.early) page.early.push({ event, offset, now });
  if (ours) announce(event, now);
  if (ours || inWallet) paint();
}

function announce(event, now) {
  const { registration } = page;
  const provider = registration.providers.get(event.org_code);
  if (event.type === "signature.requested") {
    registration.marks.requested = now;
    setTimeout(paint, 1000);
  }
  if (event.type === "provider.completed") view.say(words().saidCompleted(provider.name, provider.assets));
  if (event.type === "provider.failed") view.say(words().saidFailed(provider.name, words().error(provider.error)));
}

// --- what the person does ---------------------------------------------------------------------------------------------

async function connect(event) {
  event.preventDefault();
  const providers = page.providers.map((each) => each.org_code).filter((code) => page.chosen.has(code));
  const { api } = page;
  show("run");
  view.sending(providers.length);
  $("run-title").focus();
  page.early = [];
  await api.token().catch(() => null); // so that the time below is the request's own
  const sent = performance.now();
  try {
    const snapshot = await api.begin(providers);
    const accepted = performance.now();
    if (page.api !== api) return;
    watch(snapshot, { asked: sent, accepted });
    for (const { event: each, offset, now } of page.early) {
      if (offset > snapshot.position.offset && fold(page.registration, each, now)) announce(each, now);
    }
    tell(null);
  } catch (trouble) {
    tell(trouble);
    choose();
  } finally {
    page.early = null;
    paint();
  }
}

function watch(snapshot, marks = {}) {
  page.registration = fromSnapshot(snapshot, marks);
  view.forgetCards();
  show("run");
}

function choose() {
  page.registration = null;
  view.forgetCards();
  view.chooser(page.providers, page.chosen);
  show("chooser");
}

function show(which) {
  view.show("chooser", which === "chooser");
  view.show("run", which === "run");
}

async function act(request) {
  if (!page.registration) return;
  try {
    await request(page.registration.id);
    tell(null);
  } catch (trouble) {
    tell(trouble);
  }
}

function retry() {
  const { marks } = page.registration;
  for (const name of ["first", "last"]) delete marks[name];
  return act((id) => page.api.retry(id));
}

function tell(trouble) {
  page.trouble = trouble;
  view.trouble(trouble ? troubleWords(trouble) : "");
}

function pickAll(all) {
  page.chosen = new Set(all ? page.providers.map((each) => each.org_code) : []);
  view.chooser(page.providers, page.chosen);
}

// --- drawing ----------------------------------------------------------------------------------------------------------

/** At most once a frame; timers do it where nothing is shown. */
function paint() {
  if (page.painted) return;
  page.painted = true;
  const soon = document.hidden ? (draw) => setTimeout(draw, 50) : requestAnimationFrame;
  soon(() => {
    page.painted = false;
    if (page.registration) view.run(page.registration, page.wallet, performance.now());
    view.sums(page.wallet);
  });
}

function use(language) {
  speak(language);
  $("language").textContent = words().language;
  $("language").lang = currentLanguage() === "ko" ? "en" : "ko";
  view.line(page.line);
  if (page.trouble) tell(page.trouble);
  if (page.providers.length) view.chooser(page.providers, page.chosen);
  paint();
}

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null; // storage is switched off
  }
}

function remember(language) {
  try {
    localStorage.setItem("language", language);
  } catch {
    // Storage is switched off: the language lasts as long as the page.
  }
}

// --- begin ------------------------------------------------------------------------------------------------------------

$("language").addEventListener("click", () => {
  use(currentLanguage() === "ko" ? "en" : "ko");
  remember(currentLanguage());
});
$("chooser").addEventListener("submit", connect);
$("chooser").addEventListener("change", ({ target }) => {
  if (target.checked) page.chosen.add(target.value);
  else page.chosen.delete(target.value);
  view.counted(page.chosen);
});
$("choose-all").addEventListener("click", () => pickAll(true));
$("choose-none").addEventListener("click", () => pickAll(false));
$("cancel").addEventListener("click", () => act((id) => page.api.cancel(id)));
$("retry").addEventListener("click", retry);
$("again").addEventListener("click", () => { choose(); $("connect").focus(); });
$("person").addEventListener("submit", (event) => event.preventDefault());
$("user").addEventListener("change", ({ target }) => {
  const user = target.value.trim();
  if (!user || user === page.api.user) return;
  asked.set("user", user);
  history.replaceState(null, "", `?${asked}`);
  enter(user);
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(page.api.user, $("token").value.trim());
  $("token").value = "";
});

$("user").value = asked.get("user") || "alice";
use(asked.get("language") || remembered() || "ko");
enter($("user").value);
