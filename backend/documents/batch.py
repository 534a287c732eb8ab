"""OpenAPI of the weekly batch, for operators: schemas and operations."""

from __future__ import annotations

from backend.batch.endpoints import LONGEST, SHORTEST
from backend.batch.overview import FEW, MOST_COUNTED
from backend.batch.plan import Reason
from backend.documents.operation import BODY_PROBLEMS, Operation, json_body
from backend.documents.schemas import COUNT, DAY, FLAG, MOMENT, NUMBER, ORG_CODE, TEXT, Schema, listed, obj, ref
from backend.errors import Problem
from backend.web import MOST_WORDS

_WEEK: Schema = {**DAY, "description": "Its Sunday"}
_WHY: Schema = {**TEXT, "maxLength": MOST_WORDS, "description": "Kept with who said it"}

_DUE = (
    "Links that remain to be read this week and are not under way; failed ones are among them while they may be tried again. "
    f"Counted exactly up to {FEW} of each provider, and beyond while {MOST_COUNTED:,} links together are not exceeded; "
    "else what was planned, less what has gone since. Together with `done` and `skipped` never more than there is"
)


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def batch_schemas() -> dict[str, Schema]:
    """By public name."""
    unknown = obj(
        {"org_code": ORG_CODE, "link_id": _said(COUNT, "The link's number"), "attempt": COUNT, "minute": MOMENT, "sent_at": MOMENT},
        {},
        "An attempt whose worker died: whether the provider was called, nobody knows",
    )
    return {
        "BatchProgress": _progress(),
        "Batch": obj(
            {
                "week": _WEEK,
                "paused": _said(FLAG, "All of it"),
                "providers": listed(ref("BatchProgress")),
                "unknown_attempts": _said(listed(unknown), "100 at most"),
            }
        ),
        "BatchPlan": _plan(),
        "BatchPlans": obj({"week": _WEEK, "providers": listed(ref("BatchPlan"))}),
        "BatchWhom": obj({}, {"org_code": _said(ORG_CODE, "Absent: all"), "reason": _WHY}),
        "BatchHeld": obj({"paused": _said(FLAG, "That provider, or all")}, {"org_code": ORG_CODE}),
        "NewBatchRun": obj(
            {},
            {
                "org_code": _said(ORG_CODE, "Absent: all"),
                "within_seconds": {"type": "integer", "minimum": SHORTEST, "maximum": LONGEST, "default": 180},
                "reason": _WHY,
            },
        ),
        "BatchRun": obj({"begins": MOMENT, "providers": listed(_opened())}),
    }


def _opened() -> Schema:
    replaced = _said(FLAG, "Whether another rehearsal was open there: it ends when this one begins, and what is left of it is this one's")
    return obj({"org_code": ORG_CODE, "ends": MOMENT, "replaced": replaced})


def _progress() -> Schema:
    return obj(
        {
            "org_code": ORG_CODE,
            "name": TEXT,
            "due": _said(COUNT, _DUE),
            "done": _said(COUNT, "Links that the batch has read this week, by rehearsals, too"),
            "failed": _said(COUNT, "Links whose last attempt of this week failed, whether they are tried again or not"),
            "skipped": _said(COUNT, "Links that were left out when their turn came, since their person had refreshed them"),
            "unknown": _said(COUNT, "Links of whose last attempt nobody knows how it ended"),
            "planned_today": _said(
                COUNT,
                "Links that the plan has for today, from the moment on in which it was made last. Rehearsals are not in it",
            ),
            "pace_per_minute": _said(COUNT, "Links that leave in a minute, now; 0: none does"),
            "eased": _said(FLAG, "Whether less leaves now than is planned, since it was slow or said 429"),
            "lag_seconds": _said(NUMBER, "By which today, or the rehearsal, is behind its course; 0: it is not, or nothing is due"),
            "paused": _said(FLAG, "It, or all"),
            "rehearsal": _said(FLAG, "Whether a window is open that an operator asked for"),
        },
        {
            "finish_estimate": _said(
                MOMENT,
                "When the last due link leaves, as planned, or while `eased` at the pace of the last minutes; "
                "absent: nothing is due, it is held, or not all will go",
            ),
            "paused_because": _said(
                {"type": "string", "enum": ["operator", "out_of_window", "provider_busy"]},
                "`out_of_window`: it said 50009, that it takes no scheduled calls now; `provider_busy`: it named a time in a Retry-After; "
                "absent: it is not held",
            ),
            "paused_until": _said(
                MOMENT,
                "When it goes on by itself, by its window or its wish; a resume or a rehearsal ends it sooner; absent: an operator ends it",
            ),
            "rehearsal_links": _said(
                COUNT, "Links that were due when the rehearsal began; absent: there is none, or they are not counted yet"
            ),
        },
    )


def _plan() -> Schema:
    day = obj(
        {
            "day": DAY,
            "links": COUNT,
            "batch_calls": COUNT,
            "user_calls": _said(COUNT, "Expected, of people"),
            "already": _said(COUNT, "Calls of the batch before the plan was made"),
            "room": _said(COUNT, "Most calls that fit into the day's windows"),
            "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
            "because": _said(TEXT, "In words"),
        }
    )
    return obj(
        {
            "org_code": ORG_CODE,
            "name": TEXT,
            "planned_at": MOMENT,
            "links": _said(COUNT, "That remained then"),
            "calls_per_link": NUMBER,
            "gap": _said(COUNT, "Calls by which the highest day is above the lowest peak that is possible"),
            "peak_to_mean": NUMBER,
            "days": listed(day),
        },
        {
            "forecast_error": _said(NUMBER, "Of the last weeks; 0.1: a tenth. Absent: there is no history"),
            "impossible": _said(TEXT, "What cannot be done. Absent: nothing"),
        },
    )


BATCH: tuple[Operation, ...] = (
    Operation(
        path="/ops/batch",
        method="get",
        name="getBatch",
        summary="How the weekly batch goes",
        tag="Batch",
        scope="ops",
        answers={200: json_body("Every provider, in the order of the directory", "Batch")},
    ),
    Operation(
        path="/ops/batch/plan",
        method="get",
        name="getBatchPlan",
        summary="This week's plans, with the reason for each day",
        tag="Batch",
        scope="ops",
        answers={200: json_body("Every provider that is planned", "BatchPlans")},
    ),
    Operation(
        path="/ops/batch/pause",
        method="post",
        name="pauseBatch",
        summary="Hold the batch of one provider, or all of it",
        description="Answers when it is committed; senders stop within two seconds, and what is under way ends.",
        tag="Batch",
        scope="ops",
        body="BatchWhom",
        answers={200: json_body("Held", "BatchHeld")},
        problems=(*BODY_PROBLEMS, Problem.UNKNOWN_PROVIDER),
    ),
    Operation(
        path="/ops/batch/resume",
        method="post",
        name="resumeBatch",
        summary="Let it go on, planned anew",
        description="One that was held while all are stays held with them.",
        tag="Batch",
        scope="ops",
        body="BatchWhom",
        answers={200: json_body("Whether it is held still", "BatchHeld")},
        problems=(*BODY_PROBLEMS, Problem.UNKNOWN_PROVIDER),
    ),
    Operation(
        path="/ops/batch/run",
        method="post",
        name="runBatch",
        summary="Refresh all that is due within so long from now",
        description=(
            "A rehearsal. The sandbox's institutions are called at once; "
            "real ones, on leased lines, too, only within their own transfer windows."
        ),
        tag="Batch",
        scope="ops",
        body="NewBatchRun",
        answers={202: json_body("The window is open", "BatchRun")},
        problems=(*BODY_PROBLEMS, Problem.UNKNOWN_PROVIDER, Problem.OUTSIDE_WINDOW),
    ),
)
