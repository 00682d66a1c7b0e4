"""An agent on documents of your own: write them as a BEIR folder, train on half of the judged queries, evaluate.

    python examples/own_documents.py

Three things are needed: documents, some queries, and which documents answer them. Without judged queries,
``searchrl generate-queries`` writes some.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import searchrl

DOCUMENTS = {
    "tea": ("Tea", "Tea is brewed from the leaves of Camellia sinensis in hot water."),
    "coffee": ("Coffee", "Coffee is brewed from roasted and ground coffee beans."),
    "bread": ("Bread", "Bread is baked from flour, water, salt and yeast."),
    "cheese": ("Cheese", "Cheese is made from milk that curdles; the whey is drained."),
    "paper": ("Paper", "Paper is made from the fibres of wood or rags, pressed and dried."),
    "glass": ("Glass", "Glass is made by melting sand, soda and lime in a furnace."),
    "salt": ("Salt", "Salt is won from the sea or mined from rock."),
    "steel": ("Steel", "Steel is iron with a little carbon, made in a furnace."),
}
QUERIES = {
    "train": {"hot drink from leaves": "tea", "what is baked with yeast": "bread", "melted sand": "glass"},
    "dev": {"drink from roasted beans": "coffee", "curdled milk": "cheese"},
    "test": {"iron with carbon": "steel", "pressed wood fibres": "paper", "mined from rock": "salt"},
}


def write_collection(folder: Path) -> None:
    """Write ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``."""
    lines = [json.dumps({"_id": name, "title": title, "text": text}) for name, (title, text) in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "qrels").mkdir()
    queries = []
    for split, answers in QUERIES.items():
        judged = ["query-id\tcorpus-id\tscore"]
        for number, (text, document) in enumerate(answers.items()):
            queries.append(json.dumps({"_id": f"{split}-{number}", "text": text}))
            judged.append(f"{split}-{number}\t{document}\t1")
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(judged) + "\n", encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(queries) + "\n", encoding="utf-8")


def main() -> None:
    """Prepare, train, evaluate."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_collection(folder)
        prepared = searchrl.prepare(str(folder), depth=10)
        trained = searchrl.train(prepared, episodes=640)
        print(searchrl.evaluate(trained))
        trained.save(folder / "policy.pt")  # for searchrl eval, search and serve
        prepared.close()


if __name__ == "__main__":
    main()
