"""One operation of the OpenAPI document: what it takes, what it answers, with which codes it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from backend.documents.schemas import ORG_CODE, Schema, ref
from backend.errors import PROBLEMS, Problem

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

# Any request of a user may be refused with these.
USUAL = (
    Problem.UNAUTHENTICATED,
    Problem.TOKEN_INVALID,
    Problem.TOKEN_EXPIRED,
    Problem.SCOPE_MISSING,
    Problem.ORIGIN_NOT_ALLOWED,
    Problem.RATE_LIMITED,
    Problem.ENGINE_UNAVAILABLE,
    Problem.INTERNAL,
)
# Any request with a body may be refused with these, too.
BODY_PROBLEMS = (
    Problem.MALFORMED_JSON,
    Problem.BODY_TOO_SLOW,
    Problem.BODY_TOO_LARGE,
    Problem.UNSUPPORTED_MEDIA_TYPE,
    Problem.VALIDATION_FAILED,
)
ORG_CODE_GIVEN: Schema = {**ORG_CODE, "pattern": "^[A-Za-z0-9]{10}$"}
_NEED_NO_BODY = {"NewRefresh", "BatchWhom"}


def header(description: str, schema: Schema | None = None) -> Schema:
    return {"description": description, "schema": schema or {"type": "string"}}


REQUEST_ID = {"X-Request-Id": header("The caller's, if it sent one of 8 to 64 letters, digits, `.`, `_`, `-`; else a new one")}


def parameter(name: str, where: str, description: str, schema: Schema | None = None, *, required: bool = False) -> Schema:
    return {"name": name, "in": where, "required": required, "description": description, "schema": schema or {"type": "string"}}


def limit(default: int, most: int) -> Schema:
    return parameter("limit", "query", "How many at most", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


@dataclass(frozen=True, kw_only=True)
class Answer:
    description: str
    content: dict[str, Schema] = field(default_factory=dict)  # media type -> schema
    headers: Schema = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path. `scope` None: no token is needed."""

    path: str
    method: str
    name: str
    summary: str
    tag: str
    answers: dict[int, Answer]
    description: str = ""
    scope: str | None = "user"
    parameters: tuple[Schema, ...] = ()
    body: str | None = None  # name of its schema
    problems: tuple[Problem, ...] = ()

    def document(self) -> Schema:
        refusals = {*self.problems, *(USUAL if self.scope else (Problem.INTERNAL,))}
        found: Schema = {
            "operationId": self.name,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": {**{str(status): _answer(answer) for status, answer in self.answers.items()}, **_refusals(refusals)},
            "security": [{"token": [self.scope]}] if self.scope else [],
        }
        if self.description:
            found["description"] = self.description
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.body:
            found["requestBody"] = {"required": self.body not in _NEED_NO_BODY, "content": {JSON: {"schema": ref(self.body)}}}
        return found


def _answer(answer: Answer) -> Schema:
    content = {"content": {media: {"schema": schema} for media, schema in answer.content.items()}} if answer.content else {}
    return {"description": answer.description, "headers": {**REQUEST_ID, **answer.headers}, **content}


def _refusals(problems: set[Problem]) -> Schema:
    def status(problem: Problem) -> int:
        return PROBLEMS[problem].status

    found: Schema = {}
    for code, group in groupby(sorted(problems, key=lambda problem: (status(problem), problem)), key=status):
        codes = [problem.value for problem in group]
        schema = {"allOf": [ref("Problem"), {"type": "object", "properties": {"code": {"enum": codes}}}]}
        late = any(PROBLEMS[Problem(each)].retry_after is not None for each in codes)
        headers = {**REQUEST_ID, **({"Retry-After": header("Seconds", {"type": "integer"})} if late else {})}
        words = ", ".join(f"`{each}`" for each in codes)
        found[str(code)] = {"description": words, "headers": headers, "content": {PROBLEM_JSON: {"schema": schema}}}
    return found


def json_body(description: str, schema: str, headers: Schema | None = None) -> Answer:
    return Answer(description=description, content={JSON: ref(schema)}, headers=headers or {})
