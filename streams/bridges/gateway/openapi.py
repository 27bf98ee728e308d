"""The OpenAPI document of the gateway; its schemas are those of the messages."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from beliefstream.schemas import Observation, Posterior, Prior, Reason
from beliefstream.streams.bridges.gateway.bodies import JSON, LINES, MOST_ITEMS
from beliefstream.streams.settings import Settings

Schema = dict[str, Any]

_PLACE = "#/components/schemas/"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def document(settings: Settings) -> Schema:
    """The OpenAPI 3.1.0 document."""
    components: Schema = {"schemas": _schemas()}
    described: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "Beliefstream gateway",
            "version": version("beliefstream"),
            "description": "Observations and priors in, posteriors out. A message is accepted (202) only once Kafka "
            "has acknowledged it.",
        },
        "paths": {
            "/v1/observations": {"post": _post("Observation", "Send observations", settings)},
            "/v1/priors": {"post": _post("Prior", "Send priors", settings)},
            "/v1/posteriors": {"get": _stream()},
            "/v1/posteriors/{entity}": {"get": _latest()},
            "/healthz": {"get": _open("Whether the process answers", 200)},
            "/readyz": {"get": _open("Whether it is ready, and if not, what it waits for", 200, 503)},
            "/openapi.json": {"get": _open("This document", 200)},
            "/metrics": {"get": {"summary": "Metrics in Prometheus' format", "responses": _of(200, 401)}},
        },
        "components": components,
    }
    if settings.token_of_gateway is not None:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"bearer": []}]
    return described


def _post(message: str, summary: str, settings: Settings) -> Schema:
    one = {"$ref": _PLACE + message}
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_ITEMS}
    each = {**_TEXT, "description": f"one {message} as JSON on each line; at most {MOST_ITEMS} lines"}
    content: Schema = {JSON: {"schema": {"anyOf": [one, several]}}}
    content |= {media: {"schema": each} for media in LINES}
    report = {JSON: {"schema": {"$ref": _PLACE + "Report"}}}
    refused = {JSON: {"schema": {"anyOf": [{"$ref": _PLACE + "Report"}, {"$ref": _PLACE + "Problem"}]}}}
    responses = _of(401, 408, 413, 415, 429)
    responses |= {
        "202": {"description": "Kafka has all of them", "content": report},
        "207": {"description": "some were accepted; items says what became of each", "content": report},
        "400": {"description": "none can be used, or the body is no JSON", "content": refused},
        "503": {
            "description": "Kafka has acknowledged none in time; some may be stored all the same, so give each an id "
            "and send them again",
            "headers": _RETRY,
            "content": refused,
        },
    }
    return {
        "summary": summary,
        "description": f"Bodies have at most {settings.gateway_body_bytes} bytes. Bad messages do not keep good ones "
        "of the same request from being accepted.",
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    }


def _stream() -> Schema:
    events = {
        **_TEXT,
        "description": "events `posterior`, with a Posterior as data, and `dropped`, with a count of posteriors left "
        "out because the client reads too slowly",
    }
    entity = {
        "name": "entity",
        "in": "query",
        "description": "only of this one; may be repeated",
        "schema": {"type": "array", "items": _TEXT},
    }
    responses = _of(400, 401, 503) | {
        "200": {"description": "server-sent events", "content": {"text/event-stream": {"schema": events}}}
    }
    return {"summary": "Follow posteriors from now on", "parameters": [entity], "responses": responses}


def _latest() -> Schema:
    found = {"description": "the posterior", "content": {JSON: {"schema": {"$ref": _PLACE + "Posterior"}}}}
    entity = {"name": "entity", "in": "path", "required": True, "schema": _TEXT}
    responses = _of(401, 404, 503) | {"200": found}
    return {"summary": "The latest posterior of an entity", "parameters": [entity], "responses": responses}


def _open(summary: str, *statuses: int) -> Schema:
    return {"summary": summary, "security": [], "responses": _of(*statuses)}


def _of(*statuses: int) -> Schema:
    meanings = {
        200: "as said above",
        400: "a parameter cannot be used",
        401: "a bearer token is needed",
        404: "no posterior of it is kept",
        408: "the rest of the body has not come",
        413: "the body is too large, or has too many messages",
        415: "the body is in a form that is not read",
        429: "the client sends too much",
        503: "not now",
    }
    refused = {JSON: {"schema": {"$ref": _PLACE + "Problem"}}}
    return {
        str(status): {"description": meanings[status]}
        | ({"content": refused} if status >= 400 else {})
        | ({"headers": _RETRY} if status in (429, 503) else {})
        for status in statuses
    }


def _schemas() -> Schema:
    messages = [(message, "validation") for message in (Observation, Prior, Posterior)]
    _, made = models_json_schema(messages, ref_template=_PLACE + "{model}")  # type: ignore[arg-type]
    reason = {"enum": [reason.value for reason in Reason], "description": "from a closed list"}
    item = {
        "index": {**_COUNT, "description": "of the message in the request, from 0; empty lines do not count"},
        "status": {"enum": [202, 400, 503]},
        "place": {**_TEXT, "description": "partition:offset, which the posterior repeats in applied"},
        "reason": reason,
        "error": {**_TEXT, "description": "one line with field and value"},
    }
    items = {
        "type": "array",
        "items": {"type": "object", "properties": item, "required": ["index", "status"]},
    }
    report = {"accepted": _COUNT, "rejected": _COUNT, "items": items}
    own = {
        "Report": {"type": "object", "properties": report, "required": list(report)},
        "Problem": {
            "type": "object",
            "properties": {"error": _TEXT, "reason": reason},
            "required": ["error"],
        },
    }
    return {**made["$defs"], **own}
