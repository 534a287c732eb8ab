// The requests of the page. In: paths and bodies. Out: JSON, or a `Trouble` with the problem document's code.

const SECONDS = 15_000; // milliseconds for one request

export class Trouble extends Error {
  constructor({ code, detail = "", status = 0 }) {
    super(code);
    Object.assign(this, { code, detail, status });
  }
}

export class Api {
  /** `mint(user)`: a fresh token, or null when this server hands out none. */
  constructor(user) {
    this.user = user;
    this.given = null; // a token that the person pasted; it is never stored
    this.held = null;
  }

  /** A JWT; a fresh one when `fresh`. Rejects with `token_needed` when a person must give one. */
  async token(fresh = false) {
    if (this.given) return this.given;
    const now = performance.now();
    if (!fresh && this.held && now < this.held.until) return this.held.token;
    const answer = await reached(`/demo/token?user=${encodeURIComponent(this.user)}`, {});
    if (answer.status === 404) throw new Trouble({ code: "token_needed" });
    const { token, expires_in } = await read(answer);
    this.held = { token, until: now + (expires_in - 60) * 1000 };
    return token;
  }

  providers() {
    return this.ask("GET", "/v1/providers").then((body) => body.providers);
  }

  /** The newest registration, if there is one, and the position that was read before it. */
  async newest() {
    const answer = await this.send("GET", "/v1/registrations?limit=1");
    const [epoch, offset] = splitPosition(answer.headers.get("X-Feed-Position"));
    const body = await read(answer);
    return { registration: body.registrations[0] ?? null, position: { epoch, offset } };
  }

  registration(id) {
    return this.ask("GET", `/v1/registrations/${encodeURIComponent(id)}`);
  }

  /** Every asset, page by page. */
  async assets() {
    const found = [];
    let query = "limit=500";
    for (;;) {
      const page = await this.ask("GET", `/v1/assets?${query}`);
      found.push(...page.assets);
      if (!page.next_page_token) return found;
      query = new URLSearchParams({ limit: 500, page_token: page.next_page_token }).toString();
    }
  }

  /** Sent again if its answer is lost: the key makes it one registration. */
  async begin(providers) {
    const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()).slice(2) };
    const body = { providers };
    try {
      return await this.ask("POST", "/v1/registrations", body, headers);
    } catch (trouble) {
      if (trouble.code !== "unreachable") throw trouble;
      return this.ask("POST", "/v1/registrations", body, headers);
    }
  }

  retry(id) {
    return this.ask("POST", `/v1/registrations/${encodeURIComponent(id)}/retry`);
  }

  cancel(id) {
    return this.ask("DELETE", `/v1/registrations/${encodeURIComponent(id)}`);
  }

  async ask(...request) {
    return read(await this.send(...request));
  }

  async send(method, path, body, more = {}) {
    const headers = { Authorization: `Bearer ${await this.token()}`, ...more };
    if (body) headers["Content-Type"] = "application/json";
    return reached(path, { method, headers, body: body && JSON.stringify(body) });
  }
}

export function splitPosition(text) {
  const colon = text.lastIndexOf(":");
  return [text.slice(0, colon), Number(text.slice(colon + 1))];
}

async function reached(path, options) {
  try {
    return await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(SECONDS), ...options });
  } catch {
    throw new Trouble({ code: "unreachable" });
  }
}

async function read(answer) {
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Trouble({ code: problem.code ?? "unreachable", detail: problem.detail ?? "", status: answer.status });
}
