"""``searchrl search QUERY``: an answer from the shell, by a plain search or by a trained agent, which shows its way.

``searchrl search FOLDER QUERY`` searches what ``searchrl tune`` made, as it recommends.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from searchrl.checks import at_least
from searchrl.cli.tune import choice_of, tuned_folder
from searchrl.command import parse, run_command
from searchrl.config import CollectionConfig, ModelConfig, RetrieverName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.search.corpus import Answer, Found

WIDTH = 100
"""Letters of a printed line."""


@dataclass(frozen=True)
class SearchConfig:
    """Search the documents of a dataset, or, with a folder of searchrl tune before the query, its documents as it
    recommends.
    """

    query: Annotated[str, tyro.conf.Positional]
    """What to look for."""
    dataset: str = "pydocs"
    """pydocs (embedded), a BEIR folder, or nfcorpus, scifact, fiqa, arguana, scidocs (downloaded)."""
    checkpoint: str | None = None
    """Have this policy search: a file that train.py wrote, hf://USER/REPO, or auto; if not given, a plain search."""
    retriever: RetrieverName | None = None
    """What a plain search uses; hybrid if not given."""
    k: int = 10
    """Documents to show, best first."""
    json: bool = False
    """Print one JSON object: as the service answers, for one query."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    models: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        at_least("k", self.k, 1)
        if not self.query.strip():
            raise ConfigError("the query is empty: say what to look for")
        if self.checkpoint and self.retriever:
            raise ConfigError(f"retriever {self.retriever} with a checkpoint: the agent chooses how to search itself")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl search``."""
    run_command(_search, arguments)


def _search(arguments: Sequence[str]) -> None:
    folder = tuned_folder(arguments, words=2)
    config = parse(SearchConfig, _as_recommended(folder, arguments) if folder else arguments, "searchrl search")
    answer = search(config)
    if folder:
        answer = _of_documents(answer)
    print(_as_json(config.query, answer) if config.json else _as_text(answer))


def _as_recommended(folder: Path, arguments: Sequence[str]) -> list[str]:
    choice, encoder = choice_of(folder)
    how = ["--checkpoint", str(folder / "policy.pt")] if choice == "agent" else ["--retriever", choice]
    return [arguments[1], "--dataset", str(folder / "collection"), "--encoder", encoder, *how, *arguments[2:]]


def _of_documents(answer: Answer) -> Answer:
    """The best passage of each document, under the document's id."""
    from searchrl.experiment.passages import document_of

    best: dict[str, Found] = {}
    for found in answer.keys:
        document = document_of(str(found.key_id))
        best.setdefault(document, found._replace(key_id=document))
    return replace(answer, keys=list(best.values()))


def search(config: SearchConfig) -> Answer:
    """Index the dataset, or take the stored index, and search it."""
    from searchrl.data.load import load_dataset
    from searchrl.experiment.parts import make_encoder, make_loader, make_retriever
    from searchrl.search.corpus import DEPTH, Asked, IndexedCorpus, SinglePass

    if config.k > DEPTH:
        raise ConfigError(f"k {config.k}: a ranking has at most {DEPTH} documents")
    with ExitStack() as opened:
        loader = make_loader(config.models)
        opened.callback(loader.close)
        encoder = make_encoder(config.models, loader.device)
        asked = [Asked(config.query, config.k)]
        agent = None
        if config.checkpoint:
            from searchrl.agent.checkpoint import find_policy
            from searchrl.search.corpus import Agent, PlayAgent

            agent = Agent(find_policy(config.checkpoint), config.models, encoder)
            opened.callback(agent.close)
        where = config.collection
        corpus = load_dataset(config.dataset, data_dir=where.data_dir, mirror=where.mirror).corpus
        indexes = make_retriever(corpus, encoder, loader.cache, indexing=config.models.indexing, show_progress=True)
        index = IndexedCorpus(corpus, indexes.index, encoder)
        work = PlayAgent(agent, index) if agent else SinglePass(index, config.retriever or "hybrid")
        return work(asked)[0]


def _as_json(query: str, answer: Answer) -> str:
    def keys(found: list[Found] | None) -> list[dict[str, Any]] | None:
        return None if found is None else [document._asdict() for document in found]

    steps = [{**step, "keys": keys(step["keys"])} for step in answer.steps]
    content = {"query": query, "query_id": 0, "keys": keys(answer.keys), "steps": steps or None}
    return json.dumps(content, ensure_ascii=False, indent=1)


def _as_text(answer: Answer) -> str:
    lines = []
    for number, step in enumerate(answer.steps, start=1):
        chances = ", ".join(f"{name} {chance:.0%}" for name, chance in step["probabilities"].items())
        found = "" if step["keys"] is None else f"; finds {', '.join(str(key.key_id) for key in step['keys'][:3])}"
        lines.append(f"step {number}: {step['action']} ({chances}): {step['query']!r}{found}")
    lines += [""] if lines else []
    for rank, key in enumerate(answer.keys, start=1):
        lines.append(f"{rank:2}. {key.key_id}  {key.score:.3f}  {key.title}".rstrip())
        lines.append(f"    {textwrap.shorten(key.key, WIDTH, placeholder=' ...')}")
    return "\n".join(lines) or "nothing found"
