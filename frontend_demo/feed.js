// One feed, a user's or the operators': over WebSocket, else SSE, else polls. Every event once and in order, from a position on, whatever is cut in between.
// When the log no longer has what is missing, `lost` is asked to read the snapshots again and to say where to go on.

import { Cut, followBySocket } from "./centrifuge.js";

const ORDER = ["websocket", "sse", "poll"];
const GIVE_UP_AFTER = 2; // attempts in a row that never opened, until the next transport is tried
const LONGEST_PAUSE = 10_000; // milliseconds
const WAIT = 25; // seconds that a poll waits
const SILENCE = 40_000; // milliseconds; an event stream is heard each 15 s
const LARGEST = 16 * 1024 * 1024; // characters of one message
const USERS = { path: "/v1/events", channel: "feed" };

export class Feed {
  /** hooks: token(fresh), event(event, offset), lost() -> position, line(state), trouble({code, detail}). `only`: one transport, no other. */
  constructor(hooks, only, where = USERS) {
    this.hooks = hooks;
    this.where = where;
    this.transports = ORDER.includes(only) ? [only] : ORDER;
    this.abort = new AbortController();
  }

  /** Follows from `position` on, until `stop`. */
  async follow(position) {
    this.position = { ...position };
    let [failures, unopened, turn] = [0, 0, 0];
    while (!this.abort.signal.aborted) {
      const transport = this.transports[turn % this.transports.length];
      this.hooks.line("connecting");
      try {
        await this.serve(transport);
      } catch (cut) {
        if (this.abort.signal.aborted) break;
        if (cut.lost) this.position = await this.reread();
        if (cut.final && cut.opened !== true && turn + 1 >= this.transports.length) return this.refused(cut);
        if (cut.expired) await this.hooks.token(true).catch(() => null);
        failures = cut.opened ? 1 : failures + 1;
        unopened = cut.opened || cut.lost || cut.expired ? 0 : unopened + 1;
        if (unopened >= GIVE_UP_AFTER) [turn, unopened] = [turn + 1, 0];
        if (!cut.lost) await this.pause(failures);
      }
    }
    this.hooks.line("off");
  }

  stop() {
    this.abort.abort();
  }

  serve(transport) {
    const live = () => this.hooks.line(transport);
    const event = (offset, data, epoch) => {
      this.position = { epoch, offset };
      this.hooks.event(data, offset);
    };
    const shared = { ...this.where, token: this.hooks.token, position: () => this.position, live, event, signal: this.abort.signal };
    return { websocket: followBySocket, sse: followByStream, poll: followByPolls }[transport](shared);
  }

  async reread() {
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.hooks.lost();
      } catch {
        await this.pause(failures);
      }
    }
  }

  refused(cut) {
    this.hooks.line("off");
    this.hooks.trouble({ code: cut.code ?? "feed_refused", detail: cut.message });
  }

  /** Full jitter: many pages lose one server at once. Coming back online ends the pause. */
  pause(failures) {
    const longest = Math.min(LONGEST_PAUSE, 200 * 2 ** failures);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.random() * longest);
      addEventListener("online", () => { clearTimeout(timer); resolve(); }, { once: true });
      this.abort.signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

// --- SSE by fetch: EventSource cannot send a token --------------------------------------------------------------------

async function followByStream({ path, token, position, live, event, signal }) {
  const { epoch, offset } = position();
  const guard = new AbortController();
  const stop = () => guard.abort();
  signal.addEventListener("abort", stop, { once: true });
  let opened = false;
  let silence = setTimeout(stop, SILENCE);
  try {
    const headers = { Authorization: `Bearer ${await token(false)}`, Accept: "text/event-stream", "Last-Event-ID": `${epoch}:${offset}` };
    const answer = await fetch(path, { headers, signal: guard.signal, cache: "no-store" });
    await check(answer);
    for await (const message of messages(answer.body, () => { clearTimeout(silence); silence = setTimeout(stop, SILENCE); })) {
      const data = message.data === undefined ? null : JSON.parse(message.data);
      if (message.event === "position") {
        if (!data.recovered) throw new Cut("history was lost", { lost: true });
        opened = true;
        live();
      } else if (data) {
        const [id, number] = [message.id.slice(0, message.id.lastIndexOf(":")), Number(message.id.slice(message.id.lastIndexOf(":") + 1))];
        event(number, data, id);
      }
    }
    throw new Cut("the stream ended", { opened });
  } catch (error) {
    throw error instanceof Cut ? error : new Cut(String(error), { opened });
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", stop);
    guard.abort();
  }
}

async function* messages(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    buffer += value;
    if (buffer.length > LARGEST) throw new Error("a message without an end");
    const whole = buffer.split("\n\n");
    buffer = whole.pop();
    for (const message of whole) yield fields(message);
  }
}

function fields(message) {
  const found = {};
  for (const line of message.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) found[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return found;
}

// --- poll -------------------------------------------------------------------------------------------------------------

async function followByPolls({ path, token, position, live, event, signal }) {
  let opened = false;
  try {
    for (;;) {
      const { epoch, offset } = position();
      const query = new URLSearchParams({ since: `${epoch}:${offset}`, wait: opened ? WAIT : 0 });
      const headers = { Authorization: `Bearer ${await token(false)}`, Accept: "application/json" };
      const limit = AbortSignal.timeout(SILENCE);
      const answer = await fetch(`${path}?${query}`, { headers, cache: "no-store", signal: AbortSignal.any([signal, limit]) });
      await check(answer);
      const found = await answer.json();
      if (!found.recovered) throw new Cut("history was lost", { lost: true });
      if (!opened) live();
      opened = true;
      for (const { offset: number, ...data } of found.events) event(number, data, found.epoch);
    }
  } catch (error) {
    throw error instanceof Cut ? error : new Cut(String(error), { opened });
  }
}

async function check(answer) {
  if (answer.ok) return;
  const problem = await answer.json().catch(() => ({}));
  const cut = new Cut(problem.detail ?? `HTTP ${answer.status}`, {
    expired: answer.status === 401 && problem.code === "token_expired",
    final: answer.status >= 400 && answer.status < 500 && answer.status !== 429 && problem.code !== "token_expired",
  });
  throw Object.assign(cut, { code: problem.code });
}
