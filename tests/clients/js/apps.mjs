// Apps of people, each with the official client: many in one process, told by lines of JSON what to do, telling by lines what happened.
//
// In (stdin):  {do: "open", app, url, http, how: "since" | "state", since?, token?}, {do: "token", app, token}, {do: "block", ms},
//              {do: "close", app}
// Out (stdout): {app, what, ...}: connecting, connected, disconnected, subscribing, subscribed, unsubscribed, publication, state, error,
//              token? (answer it with a token). An app without `token` asks for one whenever the client wants one.
// Reading the snapshot is the app's work; everything about the connection is the client's own.

import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';

const apps = new Map();

const tell = (app, what, more = {}) => process.stdout.write(JSON.stringify({ app, what, ...more }) + '\n');

class App {
  constructor({ app, url, http, how, since, token }) {
    Object.assign(this, { app, http, how, waiting: [] });
    this.token = token ?? '';
    const identity = token ? { token } : { getToken: () => this.askForToken() };
    this.client = new Centrifuge(url, { ...identity, minReconnectDelay: 10, maxReconnectDelay: 50 });
    const start = how === 'state' ? { getState: () => this.readState() } : { since };
    this.subscription = this.client.newSubscription('feed', { ...start, minResubscribeDelay: 10, maxResubscribeDelay: 50 });
    this.listen();
    this.subscription.subscribe();
    this.client.connect();
  }

  listen() {
    for (const what of ['connecting', 'disconnected']) {
      this.client.on(what, ({ code }) => tell(this.app, what, { code }));
    }
    for (const what of ['subscribing', 'unsubscribed']) {
      this.subscription.on(what, ({ code }) => tell(this.app, what, { code }));
    }
    this.client.on('connected', () => tell(this.app, 'connected'));
    this.client.on('error', ({ error }) => tell(this.app, 'error', error));
    this.subscription.on('error', ({ error }) => tell(this.app, 'error', error));
    this.subscription.on('publication', ({ offset, data }) => tell(this.app, 'publication', { offset, data }));
    this.subscription.on('subscribed', ({ wasRecovering, recovered, streamPosition }) => {
      tell(this.app, 'subscribed', { wasRecovering, recovered, position: streamPosition });
      if (this.how === 'since' && wasRecovering && !recovered) this.readStateUntilItIsThere();
    });
  }

  askForToken() {
    tell(this.app, 'token?');
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  takeToken(token) {
    this.token = token;
    this.waiting.shift()?.(token);
  }

  // The position first, then the data: what comes in between is in both, and does no harm.
  async readState() {
    const registrations = await this.get('/v1/registrations?limit=100');
    const assets = await this.get('/v1/assets?limit=500');
    const [epoch, offset] = registrations.position.split(':');
    const position = { epoch, offset: Number(offset) };
    tell(this.app, 'state', { position, registrations: registrations.body.registrations, assets: assets.body.assets });
    return position;
  }

  async readStateUntilItIsThere() {
    for (;;) {
      try {
        return await this.readState();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async get(path) {
    const answer = await fetch(this.http + path, { headers: { Authorization: `Bearer ${this.token}` } });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return { position: answer.headers.get('x-feed-position'), body: await answer.json() };
  }
}

const deeds = {
  open: (order) => apps.set(order.app, new App(order)),
  token: ({ app, token }) => apps.get(app).takeToken(token),
  close: ({ app }) => apps.get(app).client.disconnect(),
  // What a page does that computes for long: nothing is read meanwhile.
  block: ({ ms }) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const order = JSON.parse(line);
    deeds[order.do](order);
  })
  .on('close', () => process.exit(0));
