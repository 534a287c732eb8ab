"""Builds the sandbox: `create_app(options)` is a Starlette application that any ASGI server can run; made for uvicorn.

Routes: `/` and `/sandbox/...` for people and tests, everything else is the CA's and the providers'. Nothing runs before the first
request, no engine is needed, and all state is in the application.
"""

from __future__ import annotations

from random import Random

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from backend.clock import Clock, SystemClock
from backend.providers.sandbox.asking import DataApis
from backend.providers.sandbox.ca import CertificationAuthority
from backend.providers.sandbox.calls import CallLog
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.control import Control
from backend.providers.sandbox.front import Front
from backend.providers.sandbox.granting import Granting
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.pages import Pages
from backend.providers.sandbox.people import People
from backend.providers.sandbox.signatures import Signer
from backend.providers.sandbox.steering import Steering
from backend.providers.sandbox.tokens import Tokens


def tokens_of(options: SandboxOptions) -> Tokens:
    """What issues and knows the tokens of a sandbox with these options; what one issues, another with the same seed accepts."""
    return Tokens(
        seed=options.seed, audience=options.operator_org_code, access_ttl=options.access_token_ttl, refresh_ttl=options.refresh_token_ttl
    )


def create_app(options: SandboxOptions | None = None, clock: Clock | None = None) -> Starlette:
    """The sandbox. `clock` None: the system's."""
    options = options or SandboxOptions()
    clock = clock or SystemClock()
    signer = Signer(options.directory.ca.org_code, options.seed)
    tokens = tokens_of(options)
    people = People(options.seed, CATALOGUE)
    ca = CertificationAuthority(options=options, signer=signer, tokens=tokens, clock=clock)
    served = {
        provider.org_code: (
            Granting(provider=provider, options=options, ca=ca, root=signer.root, tokens=tokens, clock=clock),
            DataApis(provider=provider, people=people, tokens=tokens, clock=clock),
        )
        for provider in options.directory.providers
    }
    steering, calls = Steering(options), CallLog(options.call_log_size)

    def forget_calls() -> None:
        for _, data in served.values():
            data.forget_calls()

    providers = options.directory.by_org_code
    control = Control(providers=providers, steering=steering, calls=calls, clock=clock, forget_calls=forget_calls)
    pages = Pages(options=options, ca=ca)
    random = Random(options.seed)  # noqa: S311  (latencies)
    front = Front(options=options, ca=ca, served=served, steering=steering, calls=calls, tokens=tokens, clock=clock, random=random)
    steered = Mount("/sandbox", routes=[*control.routes(), *pages.sign_routes()])
    return Starlette(routes=[Route("/", pages.index, methods=["GET"]), steered, Mount("", app=front)])
