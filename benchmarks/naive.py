"""The plain way to do what SearchRL does: one thing at a time, as a first version would be written.

What ``benchmark.py`` holds SearchRL against, in the same run. Nothing here is used anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.env.graph import Observation, SearchGraph
from searchrl.env.tree import ROOT, Action
from searchrl.models.folders import quiet_transformers
from searchrl.retrieval.ranking import FloatArray

JUDGE_TOKENS = 10
REWRITE_TOKENS = 64

JUDGE_PROMPT = """Query: {query}

Document: {document}

Rate how relevant the document is to the query from 0 to 10. Answer with the number only."""

REWRITE_PROMPT = "Rewrite this search query to be more specific. Answer with the new query only: {query}"


class NaiveLM:
    """A language model asked one prompt at a time, by transformers' own ``generate`` with sampling."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import transformers

        library: Any = transformers  # whose types lag behind its arguments
        with quiet_transformers():
            self.tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True
            )
        self.model.to(device).eval()

    def judge(self, query: str, document: str) -> float:
        """How relevant a document is, 0 to 1: the first number in ten sampled tokens, one half where there is none."""
        answer = self._sample(JUDGE_PROMPT.format(query=query, document=document), JUDGE_TOKENS)
        number = re.search(r"\d+", answer)
        return min(int(number.group()), 10) / 10 if number else 0.5

    def reformulate(self, query: str) -> str:
        """Another wording: at most 64 sampled tokens, up to the model's own end-of-text token."""
        return self._sample(REWRITE_PROMPT.format(query=query), REWRITE_TOKENS).strip() or query

    @torch.no_grad()
    def _sample(self, prompt: str, new_tokens: int) -> str:
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(self.model.device)
        with quiet_transformers():
            out = self.model.generate(
                **inputs, max_new_tokens=new_tokens, do_sample=True, pad_token_id=self.tokenizer.eos_token_id
            )
        answer: str = self.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answer


class NaiveEncoder:
    """``SentenceTransformer.encode`` at its defaults."""

    def __init__(self, folder: Path, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        with quiet_transformers():
            self.model = SentenceTransformer(str(folder), device=device, local_files_only=True)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Vectors, (n, dim)."""
        return np.asarray(self.model.encode(list(texts), show_progress_bar=False), dtype=np.float32)


def search(vectors: FloatArray, query: FloatArray, depth: int) -> tuple[list[int], list[float]]:
    """The best documents for one query vector (dim,), by their cosine: indices and scores, best first."""
    scores = vectors @ query
    best = np.argpartition(-scores, depth - 1)[:depth] if depth < len(scores) else np.arange(len(scores))
    order = best[np.lexsort((best, -scores[best]))]
    return [int(document) for document in order], [float(score) for score in scores[order]]


def train_batch(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    graph: SearchGraph,
    source: str,
    rows: Sequence[int],
    generator: torch.Generator,
    step_penalty: float = 0.001,
) -> float:
    """REINFORCE: play one episode after another, step by step, then update once. Returns the mean return.

    The graph answers for the environment, so that the two ways to train differ in nothing but how they go about it.
    """
    gains = graph.state_gains(source)
    log_probs: list[Tensor] = []
    returns: list[float] = []
    for row in rows:
        node, total, chosen = ROOT, 0.0, []
        hidden, last = policy.start(1)
        for step in range(graph.tree.max_steps + (graph.tree.n_shares > 1)):  # out of steps, the share is still chosen
            out = policy(_look(graph, row, node), last, hidden)
            last = torch.multinomial(out.log_probs.detach().exp(), 1, generator=generator)[0]
            hidden = out.hidden
            chosen.append(out.log_probs[0, last[0]])
            total -= step_penalty * (step < graph.tree.max_steps)
            following = int(graph.tree.children[node, int(last)])
            node = following if following >= 0 else node
            if int(last) >= Action.TERMINATE:
                break
        log_probs.append(torch.stack(chosen).sum())
        returns.append(total + float(gains[row, node]))
    earned = torch.tensor(returns)
    _step(policy, optimizer, -(torch.stack(log_probs) * (earned - earned.mean())).mean())
    return float(earned.mean())


def train_batch_exact(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    graph: SearchGraph,
    source: str,
    rows: Sequence[int],
    step_penalty: float = 0.001,
) -> float:
    """The exact gradient: the expected return of one query after another, then one update. Returns the mean."""
    gains = graph.state_gains(source)
    expected = torch.stack([expected_return(policy, graph, gains, row, step_penalty) for row in rows]).mean()
    _step(policy, optimizer, -expected)
    return float(expected.detach())


def expected_return(
    policy: Policy, graph: SearchGraph, gains: FloatArray, row: int, step_penalty: float = 0.001
) -> Tensor:
    """What the policy earns on one query on average, by walking its tree state by state."""

    def value(node: int, steps: int, hidden: Tensor, last: Tensor) -> Tensor:
        end = torch.tensor(float(gains[row, node]))
        out_of_steps = steps == graph.tree.max_steps
        if graph.tree.over[node] or (out_of_steps and graph.tree.n_shares == 1):
            return end
        out = policy(_look(graph, row, node), last, hidden)
        total = torch.zeros(())
        for action in range(graph.tree.n_actions):
            if not graph.tree.legal[node, action]:
                continue
            child = int(graph.tree.children[node, action])
            later = end if child < 0 else value(child, steps + 1, out.hidden, torch.tensor([action]))
            total = total + out.log_probs[0, action].exp() * (later - step_penalty * (not out_of_steps))
        return total

    hidden, last = policy.start(1)
    return value(ROOT, 0, hidden, last)


def _look(graph: SearchGraph, row: int, node: int) -> Observation:
    """What one episode sees, as a batch of one."""
    slot = graph.tree.search_slot[node]
    query = np.array(graph.query_vectors[row, graph.tree.query_slot[node]])
    result = np.array(graph.result_vectors[row, slot]) if slot >= 0 else np.zeros_like(query)
    seen = (query, result, np.array(graph.features[row, node]), graph.tree.legal[node])
    query_seen, result_seen, features, mask = (torch.from_numpy(array)[None] for array in seen)
    return Observation(query_seen, result_seen, features, mask)


def _step(policy: Policy, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
