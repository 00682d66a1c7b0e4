"""A small server that speaks vLLM's dialect and computes with this package's own models, so that answers can be equal.

It can be told to fail, as servers do: ``Server.faults``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from searchrl.models.encoder import Encoder
from searchrl.models.language_model import Prompt
from searchrl.models.tokens import prompt_tokens
from searchrl.models.transformers_lm import TransformersLM


@dataclass
class Server:
    """What is served, what was asked, and what goes wrong next."""

    lm: TransformersLM | None = None
    encoder: Encoder | None = None
    owner: str = "vllm"
    lacks: tuple[str, ...] = ()
    """Paths that answer 404."""
    ignores: tuple[str, ...] = ()
    """Words of a request that are not understood, and dropped."""
    faults: deque[int | str] = field(default_factory=deque)
    """For each request to come: a status to fail with, or a text to answer; "" breaks the connection off."""
    asked: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    delay: float = 0.0
    drips: float | None = None
    """Seconds between two bytes of every answer."""
    floods: int | None = None
    """Bytes of every answer."""
    retry_after: str = "0"
    """Said with every failure."""
    breaks_after: int | None = None
    """Answers after which every request fails with 500; None: never."""
    hostile: bool = False
    """The list of models fails, too."""
    url: str = ""
    _busy: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def app(self) -> FastAPI:
        """The routes."""
        app = FastAPI()

        @app.middleware("http")
        async def mishaps(request: Request, answer: Any) -> Response:
            self.asked.append(request.url.path)
            self.keys.add(request.headers.get("authorization"))
            if request.url.path in self.lacks:
                return JSONResponse({"detail": "Not Found"}, 404)
            if self.drips is not None:
                return StreamingResponse(self._dripping(self.drips), media_type="application/json")
            if self.floods is not None:
                return StreamingResponse(self._flooding(self.floods), media_type="application/json")
            if self.faults and (request.url.path != "/v1/models" or self.hostile):
                fault = self.faults.popleft()
                if isinstance(fault, str):
                    return Response(fault, headers={} if fault else {"content-length": "10"})
                return JSONResponse(
                    {"error": {"message": f"told to say {fault}"}}, fault, {"retry-after": self.retry_after}
                )
            if self.breaks_after is not None and request.url.path != "/v1/models":
                if self.breaks_after == 0:
                    return JSONResponse({"error": "out of memory"}, 500)
                self.breaks_after -= 1
            self._busy += 1
            self.most_at_once = max(self.most_at_once, self._busy)
            try:
                return await answer(request)
            finally:
                self._busy -= 1

        @app.get("/v1/models")
        def models() -> Any:
            return {"object": "list", "data": [{"id": "served", "owned_by": self.owner, "created": int(time.time())}]}

        @app.post("/tokenize")
        def tokenize(body: dict[str, Any]) -> Any:
            tokenizer = self._lm._tokenizer
            return {"tokens": tokenizer(body["prompt"], add_special_tokens=body["add_special_tokens"])["input_ids"]}

        @app.post("/v1/completions")
        def completions(body: dict[str, Any]) -> Any:
            body = self._understood(body)
            prompt = body["prompt"]
            logprobs = self._logits(prompt).log_softmax(-1)
            echoed = [None, *(float(logprobs[i, token]) for i, token in enumerate(prompt[1:]))]
            scored = [*(echoed if body.get("echo") else []), float(logprobs[-1].max())]
            return {"choices": [{"index": 0, "text": "", "logprobs": {"token_logprobs": scored}}]}

        @app.post("/v1/chat/completions")
        def chat(body: dict[str, Any]) -> Any:
            time.sleep(self.delay)
            body = self._understood(body)
            prompt = body["messages"][0]["content"]
            if len(body["messages"]) > 1:
                assert body["continue_final_message"]
                assert not body["add_generation_prompt"]
                prompt = Prompt([(prompt, True)], body["messages"][1]["content"])
            with self._lock:
                if not body.get("logprobs"):
                    settings = {"max_new_tokens": body["max_tokens"], "temperature": body["temperature"]}
                    text = self._lm.generate([prompt], seed=body.get("seed", 0), **settings)[0]
                    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
            logprobs = self._logits(prompt_tokens(self._lm._tokenizer, [prompt])[0])[-1].log_softmax(-1)
            likeliest = logprobs.topk(body["top_logprobs"]).indices.tolist()
            forced = body.get("logit_bias") or {likeliest[0]: 0}
            chosen = int(next(iter(forced)))

            def entry(token: int) -> dict[str, Any]:
                return {"token": self._lm._tokenizer.decode([token]), "logprob": float(logprobs[token])}

            content = [{**entry(chosen), "top_logprobs": [entry(token) for token in likeliest]}]
            message = {"role": "assistant", "content": content[0]["token"]}
            return {"choices": [{"index": 0, "message": message, "logprobs": {"content": content}}]}

        @app.post("/v1/embeddings")
        def embeddings(body: dict[str, Any]) -> Any:
            assert self.encoder is not None
            with self._lock:
                vectors = self.encoder.encode(body["input"])
            data = [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]
            return {"data": data[::-1]}  # the index says which is which, not the place

        @app.post("/v1/rerank")
        def rerank(body: dict[str, Any]) -> Any:
            scores = self._overlap(body["query"], body["documents"])
            results = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
            return {"results": sorted(results, key=lambda result: -result["relevance_score"])}

        @app.post("/score")
        def score(body: dict[str, Any]) -> Any:
            scores = self._overlap(body["text_1"], body["text_2"])
            return {"data": [{"index": i, "score": s} for i, s in enumerate(scores)]}

        return app

    @staticmethod
    async def _dripping(seconds: float) -> AsyncIterator[bytes]:
        yield b'{"data": ['
        while True:
            await asyncio.sleep(seconds)
            yield b" "

    @staticmethod
    async def _flooding(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1_000_000):
            yield b" " * 1_000_000

    @property
    def _lm(self) -> TransformersLM:
        assert self.lm is not None
        return self.lm

    def _understood(self, body: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in body.items() if key not in self.ignores}

    def _logits(self, tokens: list[int]) -> torch.Tensor:
        with self._lock, torch.inference_mode():
            return self._lm._model(torch.tensor([tokens])).logits[0].float()

    @staticmethod
    def _overlap(query: str, documents: list[str]) -> list[float]:
        words = set(query.split())
        return [len(words & set(document.split())) / len(words) for document in documents]


@contextmanager
def running(server: Server, port: int = 0) -> Iterator[Server]:
    """Serve on loopback, in a thread."""
    config = uvicorn.Config(server.app(), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    unit = uvicorn.Server(config)
    thread = threading.Thread(target=unit.run)
    thread.start()
    try:
        while not unit.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        server.url = f"http://127.0.0.1:{unit.servers[0].sockets[0].getsockname()[1]}"
        yield server
    finally:
        unit.should_exit = True
        thread.join()
