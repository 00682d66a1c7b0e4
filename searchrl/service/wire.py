"""What the formats of other programs share: requests that may say more than is read, and errors as their clients read
them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.responses import JSONResponse

MAX_TEXT = 20_000
"""Characters of one text; models read less."""
OPENAI_PATHS = ("/v1/", "/v2/")
"""Where errors have OpenAI's form."""
OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}

Cut = Annotated[str, AfterValidator(lambda text: text[:MAX_TEXT])]
"""A text of which what no model reads is left out: these clients cannot shorten it themselves."""


class Tolerant(BaseModel):
    """A request of a client that was written for another server: fields that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class OpenAIFault(BaseModel):
    """What is wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIProblem(BaseModel):
    """Why a request was refused."""

    error: OpenAIFault
    detail: str
    """The message again, where clients of Jina look for it."""


OPENAI_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIProblem} for status in (400, 401, 404, 413, 429, 503)
}
"""What OpenAI's paths answer where they refuse."""


def problem(path: str, status: int, detail: Any, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as the clients of a path read it: ``{"detail"}``; on OpenAI's paths ``{"error"}`` beside it.

    detail: a text, or FastAPI's list of faults. OpenAI says 400 where FastAPI says 422.
    """
    if not path.startswith(OPENAI_PATHS):
        return JSONResponse({"detail": detail}, status, headers)
    param = None
    if not isinstance(detail, str):
        places = [".".join(str(part) for part in fault["loc"][1:]) for fault in detail]
        messages = [fault["msg"] for fault in detail]
        param = places[0] or None
        told = zip(places, messages, strict=True)
        detail = "; ".join(f"{place}: {message}" if place else message for place, message in told)
    status = 400 if status == 422 else status
    kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    fault = OpenAIFault(message=detail, type=kind, param=param)
    return JSONResponse(OpenAIProblem(error=fault, detail=detail).model_dump(), status, headers)
