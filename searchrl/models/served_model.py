"""A model behind a server: which one it is, what the server says about it, and the base of all that ask it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from searchrl.errors import EngineError
from searchrl.models.http_client import HttpClient, MissingEndpoint
from searchrl.threads import lazy

FLEETING = {"created", "permission"}
"""What /v1/models says that differs from one start of the server to the next."""


@dataclass(frozen=True)
class ServedFacts:
    """A model as /v1/models lists it."""

    name: str
    server: str
    """Who serves it, where that is said: ``vllm``, ``llamacpp``, ``sglang``, ..."""
    parameters: int | None
    """Number of weights, where that is said (llama.cpp does)."""
    fingerprint: str
    """16 hex digits over address, name and all that the server says about the model. A server that gets other weights
    under the same name is not told apart, unless it says their size or path."""


class ServedModel:
    """A model behind a server, which is first asked when something is needed of it.

    model: its name on the server; by default the only one served. connection: ``api_key``, ``concurrency``,
    ``timeout``, ``attempts``, ``backoff`` as ``HttpClient`` takes them. Raises ConfigError on an impossible setting;
    at the first call, EngineError where the server does not answer.
    """

    def __init__(self, base_url: str, model: str | None = None, **connection: Any) -> None:
        self._client = HttpClient(base_url, **connection)
        self._model = model

    @lazy
    def served(self) -> ServedFacts:
        """What the server says about the model."""
        return served_facts(self._client, self._model)

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.served.name

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def served_facts(client: HttpClient, name: str | None) -> ServedFacts:
    """Look up the model of that name, or the only one there is.

    Raises EngineError where none is named and the server serves several or none. A name that is not listed is left for
    the server to accept: some load a model when it is first asked for.
    """
    try:
        listed = _listed(client)
    except MissingEndpoint:
        if name is None:
            raise
        listed = {}
    if name is None:
        if len(listed) != 1:
            says = f"serves {', '.join(listed)}" if listed else "does not say what it serves"
            raise EngineError(f"{client.base_url} {says}: name the model (engine_model)")
        name = next(iter(listed))
    facts = listed.get(name, {})
    lasting = {key: value for key, value in facts.items() if key not in FLEETING}
    text = json.dumps([client.base_url, name, lasting], sort_keys=True)
    size = (facts.get("meta") or {}).get("n_params")
    return ServedFacts(
        name=name,
        server=str(facts.get("owned_by") or ""),
        parameters=size if isinstance(size, int) else None,
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def _listed(client: HttpClient) -> dict[str, Mapping[str, Any]]:
    answer = client.get("/v1/models")
    try:
        return {str(entry["id"]): dict(entry) for entry in answer["data"]}
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(
            f"{client.base_url}/v1/models is not a list of models; is it an OpenAI-compatible server?"
        ) from error
