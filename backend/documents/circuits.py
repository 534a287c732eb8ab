"""OpenAPI of circuits, for operators: schemas and operations."""

from __future__ import annotations

from functools import partial

from backend.documents.operation import BODY_PROBLEMS, ORG_CODE_GIVEN, Operation, json_body, limit, parameter
from backend.documents.schemas import MOMENT, ORG_CODE, TEXT, Schema, listed, obj, ref
from backend.errors import Problem


def circuit_schemas() -> dict[str, Schema]:
    """By public name; those of circuits themselves are made of their types (`schemas.py`)."""
    action = obj({"at": MOMENT, "who": TEXT, "action": TEXT, "org_code": ORG_CODE, "reason": TEXT, "request_id": TEXT})
    mode = {"org_code": ORG_CODE, "mode": ref("BreakerMode"), "reason": TEXT, "set_by": TEXT, "set_at": MOMENT}
    return {
        "Breakers": obj({"breakers": listed(ref("Breaker"))}),
        "SetBreakerMode": obj(mode),
        "OperatorAction": {**action, "description": "`who` is the `sub` of their token."},
        "CircuitDecision": obj(
            {
                "at": {**MOMENT, "description": "Since when it stands so"},
                "org_code": ORG_CODE,
                "scope": ref("BreakerScope"),
                "state": ref("CircuitState"),
                "mode": ref("BreakerMode"),
                "reason": TEXT,
                "epoch": {"type": "integer"},
            }
        ),
        "BreakerHistory": obj({"actions": listed(ref("OperatorAction")), "decisions": listed(ref("CircuitDecision"))}),
    }


_operation = partial(Operation, tag="Circuits", scope="ops")

CIRCUITS: tuple[Operation, ...] = (
    _operation(
        path="/ops/breakers",
        method="get",
        name="listBreakers",
        summary="Every circuit: what is in force, and what was set",
        answers={200: json_body("All of them, in the order of the directory", "Breakers")},
    ),
    _operation(
        path="/ops/breakers/{org_code}",
        method="put",
        name="setBreakerMode",
        summary="Force an institution's circuits, or leave them to the coordinator",
        description="Answers when it is committed, with who said so; nodes follow within a moment.",
        parameters=(parameter("org_code", "path", "The institution", ORG_CODE_GIVEN, required=True),),
        body="NewBreakerMode",
        answers={200: json_body("It stands until another word", "SetBreakerMode")},
        problems=(*BODY_PROBLEMS, Problem.NOT_FOUND),
    ),
    _operation(
        path="/ops/breakers/history",
        method="get",
        name="listBreakerHistory",
        summary="What operators did about circuits, and what was decided",
        description="Actions are kept for ever, decisions for 30 days. `limit` goes for each.",
        parameters=(parameter("org_code", "query", "Only of this institution", ORG_CODE_GIVEN), limit(100, 1000)),
        answers={200: json_body("The newest first", "BreakerHistory")},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
)
