"""The two pages for people: what the sandbox is, and the place where a person signs. Korean and English, no scripts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from backend.providers.sandbox.ca import CertificationAuthority, Decision, Transaction
from backend.providers.sandbox.options import SandboxOptions

_PAGE = """<!doctype html><html lang="ko"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>body{{font:16px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#f3f4f6;padding:1rem;overflow:auto}}td{{padding:.1rem 1rem .1rem 0}}
button{{font:inherit;padding:.6rem 1.4rem;margin-right:1rem}}</style><h1>{title}</h1>{body}</html>"""

_CHOICES = {"decision=approve": Decision.APPROVED, "decision=deny": Decision.DENIED}
_DECIDED = {Decision.APPROVED: "서명했습니다 · Signed", Decision.DENIED: "거부했습니다 · Denied"}

_BUTTONS = """<form method="post"><button name="decision" value="approve">서명 · Approve</button>
<button name="decision" value="deny">거부 · Deny</button></form>"""

_ABOUT = """<p>가상의 인증기관과 정보제공자입니다. 사람, 회사, 계좌는 모두 지어낸 것입니다.<br>
An invented certification authority and invented providers that speak the MyData standard. Nothing here is real.</p>
<p>People: any <code>sub</code>, and <code>rich</code>, <code>empty</code>, <code>many-pages</code>, <code>minus-account</code>,
<code>closed-account</code>, <code>consent-expired</code> (each also with a number: <code>rich-2</code>).</p><h2>Steering</h2>"""

_EXAMPLES = """curl {url}/sandbox/providers
curl -X PUT {url}/sandbox/providers/{org} -d '{{"mode":"slow","latency_ms":{{"p50":900,"p99":2500}}}}'
curl -X PUT {url}/sandbox/providers/{org} -d '{{"mode":"down","for_s":30}}'
curl -X PUT {url}/sandbox/providers/{org} -d '{{"mode":"ok","error_rate":0.2,"enforce":["quota","window"]}}'
curl -X PUT {url}/sandbox/ca -d '{{"approve_after_ms":null}}'
curl '{url}/sandbox/calls?org_code={org}&since=0'
curl -X POST {url}/sandbox/reset"""


@dataclass(kw_only=True, eq=False)
class Pages:
    """The endpoints."""

    options: SandboxOptions
    ca: CertificationAuthority

    def index(self, request: Request) -> Response:
        """What this server is, and how to steer it."""
        url = self.options.public_url or str(request.base_url).rstrip("/")
        providers = self.options.directory.providers
        rows = "".join(f"<tr><td>{escape(p.name)}<td>{p.industry}<td><code>{url}/{p.org_code}</code>" for p in providers)
        body = _ABOUT + f"<pre>{escape(_EXAMPLES.format(url=url, org=providers[0].org_code))}</pre><h2>Providers</h2><table>{rows}</table>"
        return HTMLResponse(_PAGE.format(title="Moa sandbox", body=body))

    def sign_routes(self) -> list[Route]:
        return [Route("/sign/{cert_tx_id}", self.sign, methods=["GET"]), Route("/sign/{cert_tx_id}", self.decide, methods=["POST"])]

    async def sign(self, request: Request) -> Response:
        """What is to be signed, and the two buttons."""
        transaction = self.ca.transactions.get(request.path_params["cert_tx_id"])
        return _not_found() if transaction is None else _sign_page(transaction)

    async def decide(self, request: Request) -> Response:
        """The person's decision; the first one counts, anything else is none."""
        transaction = self.ca.transactions.get(request.path_params["cert_tx_id"])
        if transaction is None:
            return _not_found()
        chosen = (await request.body())[:100].decode("latin-1")
        transaction.decision = transaction.decision or _CHOICES.get(chosen)
        return _sign_page(transaction)


def _sign_page(transaction: Transaction) -> Response:
    titles = "".join(f"<li>{escape(consent.consent_title)}" for consent in transaction.consents)
    answer = _BUTTONS if transaction.decision is None else f"<p><strong>{_DECIDED[transaction.decision]}</strong></p>"
    return HTMLResponse(_PAGE.format(title="전자서명 · Signature", body=f"<p>{escape(transaction.title)}</p><ol>{titles}</ol>{answer}"))


def _not_found() -> Response:
    return HTMLResponse(_PAGE.format(title="404", body="<p>없는 서명 요청입니다 · There is no such signature request.</p>"), 404)
