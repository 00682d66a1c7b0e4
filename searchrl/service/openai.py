"""``POST /v1/embeddings`` and ``GET /v1/models``, as the clients of OpenAI call them."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from searchrl.errors import ConfigError
from searchrl.search.worker import tokens_of
from searchrl.service import schemas as s
from searchrl.service.rerank import Usage
from searchrl.service.routes import Shared
from searchrl.service.upload import Refused
from searchrl.service.wire import MAX_TEXT, OPENAI_PROBLEMS, Cut, Tolerant

TIKTOKEN_FILE = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
"""What tiktoken calls the tokens of cl100k_base; in its folder the file is named by the SHA-1 of this."""

Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, max_length=s.MAX_TEXTS)]

router = APIRouter()


class EmbeddingsRequest(Tolerant):
    """Texts, or cl100k_base's token ids of them."""

    input: Cut | Tokens | Annotated[list[Cut] | list[Tokens], Field(min_length=1, max_length=s.MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    """base64: of little-endian float32."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Only the encoder's own number: its vectors cannot be cut."""


class Embedding(BaseModel):
    """One text's unit vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """One vector a text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    """A model that the service runs."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "searchrl"


class Models(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.post("/v1/embeddings", response_model=EmbeddingsResponse, responses=OPENAI_PROBLEMS)
async def embeddings(asked: EmbeddingsRequest, service: Shared) -> JSONResponse:
    """Unit vectors of texts, which the encoder takes for documents."""
    texts = _texts(asked.input)
    dim = service.models.encoder.dim
    if asked.dimensions not in (None, dim):
        raise Refused(422, f"dimensions {asked.dimensions}: this encoder's vectors have {dim} and cannot be cut")
    with service.within_limits(len(texts), "index"):
        vectors = (await service.models.embed(texts)).astype("<f4")
    if asked.encoding_format == "base64":
        shown: list[Any] = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    else:
        shown = vectors.tolist()
    tokens = sum(map(tokens_of, texts))
    return JSONResponse(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(shown)],
            "model": service.encoder_name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


@router.get("/v1/models", responses=OPENAI_PROBLEMS)
async def list_models(service: Shared) -> Models:
    """The encoder, then the reward model. Requests may call them anything: there is one for each purpose."""
    return Models(data=[Model(id=name) for name in (service.encoder_name, service.reward_name)])


@router.get("/v1/models/{name:path}", responses=OPENAI_PROBLEMS)
async def get_model(name: str, service: Shared) -> Model:
    """One of them."""
    known = (await list_models(service)).data
    for model in known:
        if model.id == name:
            return model
    raise Refused(404, f"no model of that name here; there are {', '.join(model.id for model in known)}")


def _texts(given: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]) -> list[str]:
    """The texts that were sent. Raises ConfigError on token ids that cannot be read here."""
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], str):
        return list(given)  # type: ignore[arg-type]
    lists: Any = [given] if isinstance(given[0], int) else given
    encoding = _cl100k_base()
    if encoding is None:
        raise ConfigError(
            "token ids cannot be read here: send texts (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)) "
            "or give the service the package tiktoken and, in TIKTOKEN_CACHE_DIR, its file of cl100k_base"
        )
    try:
        return [encoding.decode(tokens)[:MAX_TEXT] for tokens in lists]
    except (KeyError, OverflowError) as error:
        raise ConfigError(f"a token id is none of cl100k_base's ({error})") from error


def _cl100k_base() -> Any:
    """tiktoken's encoding, where the package and its file are here: it would fetch the file from the web."""
    try:
        import tiktoken
    except ImportError:
        return None
    named = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(named or Path(tempfile.gettempdir()) / "data-gym-cache")
    file = folder / hashlib.sha1(TIKTOKEN_FILE.encode(), usedforsecurity=False).hexdigest()
    return tiktoken.get_encoding("cl100k_base") if file.is_file() else None
