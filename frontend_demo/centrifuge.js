// The Centrifuge client protocol in JSON over one WebSocket: connect, subscribe, recover, answer pings, refresh the token.
// Reports publications in order, each once; `Feed` (feed.js) decides what follows a cut.

const MARGIN = 10_000; // milliseconds beyond the server's ping interval before its silence means that it is gone
const FINAL = 3500; // close codes from here on: do not come back
const EXPIRED = 109;

/** What became of a connection. `lost`: history is gone; `expired`: another token is needed; `final`: do not come back. */
export class Cut extends Error {
  constructor(message, { lost = false, expired = false, final = false, opened = false } = {}) {
    super(message);
    Object.assign(this, { lost, expired, final, opened });
  }
}

/**
 * Serves one socket until it is cut, and then rejects with a `Cut`.
 * hooks: path and channel, token(fresh) -> promise of a JWT, position() -> {epoch, offset}, live(), event(offset, event, epoch), signal (AbortSignal)
 */
export function followBySocket(hooks) {
  return new Promise((_, reject) => new Socket(hooks, reject).open());
}

class Socket {
  constructor(hooks, reject) {
    Object.assign(this, { hooks, reject, id: 0, asked: new Map(), opened: false, silence: 10_000 });
  }

  async open() {
    const { hooks } = this;
    try {
      const token = await hooks.token(false);
      if (hooks.signal.aborted) return this.cut("stopped");
      this.socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}${hooks.path}`);
      hooks.signal.addEventListener("abort", () => this.cut("stopped"));
      this.socket.onmessage = ({ data }) => this.received(data);
      this.socket.onclose = ({ code, reason }) => this.cut(`${code} ${reason}`, { final: code >= FINAL && code < 4000 });
      this.socket.onopen = () => this.hello(token);
      this.listen();
    } catch (error) {
      this.cut(String(error));
    }
  }

  hello(token) {
    const { epoch, offset } = this.hooks.position();
    const connect = this.command({ connect: { token } }, (reply) => this.connected(reply.connect));
    const subscribe = this.command({ subscribe: { channel: this.hooks.channel, recover: true, epoch, offset } }, (reply) => this.subscribed(reply.subscribe));
    this.socket.send(`${connect}\n${subscribe}`);
  }

  command(body, then) {
    this.id += 1;
    this.asked.set(this.id, then);
    return JSON.stringify({ id: this.id, ...body });
  }

  received(frame) {
    this.listen();
    for (const line of frame.split("\n")) {
      if (this.over) return;
      const reply = JSON.parse(line);
      if (reply.error) this.refused(reply.error);
      else if (reply.id) this.answered(reply);
      else if (reply.push) this.pushed(reply.push);
      else this.socket.send("{}"); // a ping
    }
  }

  answered(reply) {
    this.asked.get(reply.id)?.(reply);
    this.asked.delete(reply.id);
  }

  connected({ ping, expires, ttl }) {
    this.silence = ping * 1000 + MARGIN;
    if (expires) this.refreshIn(ttl);
  }

  refreshIn(seconds) {
    clearTimeout(this.refreshing);
    const early = Math.max(1, seconds - 30); // before the end, so that nothing is cut
    this.refreshing = setTimeout(async () => {
      try {
        const token = await this.hooks.token(true);
        if (!this.over) this.socket.send(this.command({ refresh: { token } }, (reply) => this.refreshIn(reply.refresh.ttl)));
      } catch {
        this.refreshIn(35); // the server says when it is too late
      }
    }, Math.min(early * 1000, 2 ** 31 - 1));
  }

  subscribed({ epoch, recovered, publications = [] }) {
    if (!recovered) return this.cut("history was lost", { lost: true });
    this.epoch = epoch;
    this.opened = true;
    this.hooks.live();
    for (const publication of publications) this.publication(publication);
  }

  pushed(push) {
    if (push.pub) this.publication(push.pub);
    else if (push.unsubscribe) this.cut("unsubscribed"); // coming back tells whether history was lost
  }

  publication({ offset = 0, data }) {
    if (offset > this.hooks.position().offset) this.hooks.event(offset, data, this.epoch);
  }

  refused({ code, message, temporary }) {
    this.cut(`${code} ${message}`, { expired: code === EXPIRED, final: !temporary && code !== EXPIRED });
  }

  /** The server is heard every `ping` seconds; without a word it is gone, whatever TCP believes. */
  listen() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.cut("silence"), this.silence);
  }

  cut(message, kind = {}) {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.waiting);
    clearTimeout(this.refreshing);
    this.socket?.close();
    this.reject(new Cut(message, { ...kind, opened: this.opened }));
  }
}
