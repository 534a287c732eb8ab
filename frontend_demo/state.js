// What the page knows, folded from snapshots and events as the API documents it. No DOM, no network, no clock: `now` is an argument.

const DONE = new Set(["completed", "failed", "deferred", "cancelled"]);
export const OVER = new Set(["completed", "partial", "failed", "expired", "denied", "cancelled"]);

/** A registration from its snapshot; `marks` are the moments that only this page knows (performance.now, milliseconds). */
export function fromSnapshot(snapshot, marks = {}) {
  return {
    id: snapshot.id,
    status: snapshot.status,
    signature: snapshot.signature,
    providers: new Map(snapshot.providers.map((provider) => [provider.org_code, { ...provider, seen: new Set() }])),
    marks,
  };
}

/** Changes `registration` by one event; returns whether it was about it. */
export function fold(registration, event, now) {
  if (event.registration_id !== registration.id) return false;
  const { marks } = registration;
  switch (event.type) {
    case "signature.requested":
      registration.signature = event.data;
      break;
    case "signature.completed":
      registration.signature = { ...registration.signature, status: "completed" };
      registration.status = "collecting";
      marks.signed = now;
      break;
    case "signature.denied":
    case "signature.expired":
      registration.signature = { ...registration.signature, status: event.type.slice("signature.".length) };
      break;
    case "registration.retried":
      registration.status = event.data.status;
      for (const code of event.data.providers) Object.assign(registration.providers.get(code) ?? {}, { status: "waiting", error: null });
      break;
    case "registration.completed":
      registration.status = event.data.status;
      if (event.data.status === "cancelled") {
        for (const provider of registration.providers.values()) {
          if (!DONE.has(provider.status) || provider.status === "deferred") provider.status = "cancelled";
        }
      }
      break;
    default:
      foldProvider(registration, event, now);
  }
  return true;
}

function foldProvider(registration, event, now) {
  const provider = registration.providers.get(event.org_code);
  if (!provider || !event.type.startsWith("provider.")) return;
  const { marks } = registration;
  const step = event.type.slice("provider.".length);
  if (step === "connecting") Object.assign(provider, { status: "connecting", error: null });
  if (step === "assets") {
    for (const asset of event.data.assets) provider.seen.add(asset.id);
    Object.assign(provider, { status: "collecting", assets: Math.max(provider.assets, provider.seen.size) });
    marks.first ??= now;
  }
  if (step === "completed") Object.assign(provider, { status: "completed", assets: event.data.assets });
  if (step === "failed") Object.assign(provider, { status: "failed", error: event.data.error });
  if (step === "deferred") Object.assign(provider, { status: "deferred", retry_at: event.data.retry_at });
  if (DONE.has(step)) {
    marks.last = now;
    provider.took = marks.signed === undefined ? undefined : now - marks.signed;
  }
}

export function ended(registration) {
  return [...registration.providers.values()].filter((provider) => DONE.has(provider.status)).length;
}

export function isOver(registration) {
  return OVER.has(registration.status);
}

/** Replaces assets by id: those of a registration's providers as of a refresh. */
export function foldAssets(wallet, event) {
  if (event.type !== "provider.assets" && event.type !== "asset.refreshed") return false;
  for (const asset of event.data.assets) wallet.set(asset.id, asset);
  return true;
}

// --- sums -------------------------------------------------------------------------------------------------------------

const HOME = ["deposit", "investment", "pension", "prepaid"];
const SCALE = 4; // decimal places

/** Exact, since amounts are decimal strings and floats are not. */
export function sum(amounts) {
  const total = amounts.reduce((so_far, amount) => so_far + scaled(amount), 0n);
  const digits = (total < 0n ? -total : total).toString().padStart(SCALE + 1, "0");
  return `${total < 0n ? "-" : ""}${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`;
}

function scaled(amount) {
  const found = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(amount));
  if (!found) return 0n;
  const value = BigInt(found[2] + (found[3] ?? "").slice(0, SCALE).padEnd(SCALE, "0"));
  return found[1] ? -value : value;
}

/** The four groups of the page. Each: rows of {kind, count, sums: Map(currency -> decimal string)}, and its total in won. */
export function groups(wallet) {
  const assets = [...wallet.values()];
  const of = (kinds, amount) => {
    const rows = kinds.map((kind) => row(kind, assets.filter((asset) => asset.kind === kind), amount)).filter((each) => each.count);
    return { rows, won: sum(rows.map((each) => each.sums.get("KRW") ?? "0")) };
  };
  const balance = (asset) => asset.balance;
  const won = (name) => (asset) => (asset.details?.[name] === undefined ? null : { amount: asset.details[name], currency: "KRW" });
  const home = of(HOME, balance);
  const loans = of(["loan"], balance);
  const monthly = (asset) => (asset.kind === "insurance" ? (asset.details?.pay_cycle === "1M" ? won("pay_amt")(asset) : null) : won("charge_amt")(asset));
  return {
    home: { ...home, net: sum([home.won, `-${loans.won}`.replace("--", "")]) },
    spending: of(["insurance", "telecom"], monthly),
    payment: of(["card", "prepaid", "paid", "point"], (asset) => (asset.kind === "point" ? { amount: asset.details?.remain_point_amt ?? "0", currency: "P" } : asset.balance)),
    loans,
  };
}

function row(kind, assets, amount) {
  const sums = new Map();
  for (const worth of assets.map(amount)) {
    if (worth) sums.set(worth.currency, sum([sums.get(worth.currency) ?? "0", worth.amount]));
  }
  return { kind, count: assets.length, sums };
}
