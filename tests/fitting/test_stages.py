"""The data stages one after another, as a user runs them, with tiny models and real documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from searchrl.data.dataset import Dataset
from searchrl.fitting import candidates, writing
from searchrl.fitting.documents import read_documents
from searchrl.fitting.records import held_out, read_lists
from searchrl.models.transformers_lm import TransformersLM
from tests.command import Shell, files
from tests.stage_commands import fit, read

DOCUMENTS = 30
FILTERED = "data/filtered_query_recs.json"


@pytest.fixture
def place(shell: Shell, small_dataset: Dataset) -> Shell:
    """Thirty documents as text files, and a query about each, as a language model might have written it."""
    corpus = small_dataset.corpus
    (shell.folder / "docs").mkdir()
    for number in range(DOCUMENTS):
        (shell.folder / "docs" / f"{number:02}.txt").write_text(corpus.full_text(number))
    assert fit(shell, "process_data", "--dataset-name", "docs", "--output-dir", "data").ok
    written = read_documents(shell.folder / "data" / "df.csv")
    recs = []
    for row in range(DOCUMENTS):
        words = written.full_text(row).split()
        recs.append({"query": " ".join(words[:6]) + "?", "df_id": row, "query-type": "questions"})
        recs.append({"query": " ".join(words[2:6]), "df_id": row, "query-type": "titles"})
    (shell.folder / "data" / "query_recs.json").write_text(json.dumps(recs))
    return shell


def relevance(place: Shell, *flags: object) -> list[dict]:
    data = place.folder / "data"
    if not (data / "filtered_query_recs.json").exists():
        done = fit(place, "filter_query_recs", *"--input data/query_recs.json --output".split(), FILTERED)
        assert done.ok
    files = ("--queries-json", FILTERED, "--keys-csv", "data/df.csv", "--output", "data/relevance_records_embed.json")
    assert fit(place, "get_top_relevant_keys_embed", *files, "--k-key", 12, "--device", "cpu", *flags).ok
    return read(data / "relevance_records_embed.json")


def test_documents_are_shuffled_the_same_way_and_sampled(place: Shell) -> None:
    once = (place.folder / "data" / "df.csv").read_bytes()
    assert fit(place, "process_data", "--dataset-name", "docs", "--output-dir", "again").ok
    assert (place.folder / "again" / "df.csv").read_bytes() == once
    assert fit(place, "process_data", "--dataset-name", "docs", "--output-dir", "some", "--n-sample", 7).ok
    texts = {name: read_documents(place.folder / name / "df.csv").texts for name in ("data", "some")}
    assert texts["some"] == texts["data"][:7], "the first of the same order"
    assert fit(place, "process_data", "--dataset-name", "docs", "--output-dir", "other", "--random-seed", 1).ok
    other = read_documents(place.folder / "other" / "df.csv").texts
    assert sorted(other) == sorted(texts["data"])
    assert other != texts["data"]
    from datasets import load_from_disk

    stored = load_from_disk(str(place.folder / "data"))["train"]
    assert list(stored["text"]) == texts["data"]


def test_every_kind_of_source(shell: Shell, small_folder: Path, small_dataset: Dataset) -> None:
    records = [{"_id": "a", "title": "T", "body": 'x, "y"\nz'}, {"_id": "b", "title": "", "body": "ü"}]
    (shell.folder / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    (shell.folder / "t.json").write_text(json.dumps(records))
    (shell.folder / "t.csv").write_text('_id,title,body\na,T,"x, ""y""\nz"\nb,,ü\n')
    (shell.folder / "t.tsv").write_text('_id\ttitle\tbody\na\tT\t"x, ""y""\nz"\nb\t\tü\n')
    for name in ("t.jsonl", "t.json", "t.csv", "t.tsv"):
        flags = ("--dataset-name", name, "--output-dir", name[2:], "--text-column", "body")
        assert fit(shell, "process_data", *flags).ok
        corpus = read_documents(shell.folder / name[2:] / "df.csv")
        assert sorted(zip(corpus.titles, corpus.texts, strict=True)) == [("", "ü"), ("T", 'x, "y"\nz')]
    assert fit(shell, "process_data", "--dataset-name", small_folder, "--output-dir", "beir").ok
    assert len(read_documents(shell.folder / "beir" / "df.csv")) == len(small_dataset.corpus)
    for name, message in (
        ("t.csv", "no field 'text'; found _id, title, body; name another as text_column"),
        ("nothing-of-this-name", "unknown dataset 'nothing-of-this-name'"),
    ):
        assert message in fit(shell, "process_data", "--dataset-name", name, "--output-dir", "x").error


def test_a_language_model_writes_queries_and_its_answers_are_kept(
    place: Shell, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def title(self: object, prompts: list[str], **settings: object) -> list[str]:
        """Random weights write no titles."""
        asked.extend(prompts)
        return [f"Title of {len(prompt)} letters" for prompt in prompts]

    monkeypatch.setattr(TransformersLM, "generate", title)
    flags = ("--input-csv", "data/df.csv", "--model-name", tiny_lm, "--device", "cpu", "--max-documents", 3)
    flags += ("--kinds", "titles", "keywords")
    assert fit(place, "make_query_recs", *flags, "--output", "one.json").ok
    assert len(asked) == 6
    recs = read(place.folder / "one.json")
    assert {rec["query-type"] for rec in recs} == {"titles", "keywords"}
    assert {rec["df_id"] for rec in recs} == {0, 1, 2}
    monkeypatch.setattr(TransformersLM, "generate", None)  # whoever asks now fails
    assert fit(place, "make_query_recs", *flags, "--output", "two.json").ok
    assert read(place.folder / "two.json") == recs
    with pytest.raises(TypeError):
        fit(place, "make_query_recs", *flags, "--output", "three.json", "--no-cache")


def test_filtering(place: Shell) -> None:
    flags = ("--input", "data/query_recs.json", "--output", "kept.json")
    recs = read(place.folder / "data" / "query_recs.json")
    (place.folder / "data" / "query_recs.json").write_text(
        json.dumps([*recs, recs[0], recs[0] | {"query": "too short"}])
    )
    outcome = fit(place, "filter_query_recs", *flags).ok
    assert "30 of another kind" in outcome.out
    assert "1 asked before" in outcome.out
    assert "1 too short or too long" in outcome.out
    assert read(place.folder / "kept.json") == [rec for rec in recs if rec["query-type"] == "questions"]
    assert "its kinds are questions, titles" in fit(place, "filter_query_recs", *flags, "--filter", "keywords").error


def test_candidates_and_pairs(place: Shell) -> None:
    records = relevance(place)
    corpus = read_documents(place.folder / "data" / "df.csv")
    assert all(len(r["keys"]) == 12 and r["keys"][0]["score"] >= r["keys"][-1]["score"] for r in records)
    assert sum(r["keys"][0]["key_id"] == r["df_id"] for r in records) > 20, "the beginning of a text finds it"
    flags = ("--relevance-json", "data/relevance_records_embed.json", "--source-csv", "data/df.csv")
    assert fit(place, "sample_dpo_batch", *flags, "--output", "data/set.json").ok
    for record, ranked in zip(read(place.folder / "data" / "set.json"), records, strict=True):
        found = {key["key_id"] for key in ranked["keys"]}
        own, one, other, random = record["key_ids"]
        assert record["origins"] == ["source", "retrieved", "retrieved", "random"]
        assert own == record["df_id"]
        assert {one, other} <= found - {own}
        assert random not in found | {own}
        assert record["keys"] == [corpus.full_text(k) for k in record["key_ids"]]

    assert fit(
        place, "judge_dataset", "--query-key-set", "data/set.json", "--output-dir", "data", "--judge", "source"
    ).ok
    texts = {corpus.full_text(row): row for row in range(DOCUMENTS)}
    queries = {r["query"]: r["df_id"] for r in records}
    seen = {}
    for split in ("train", "test"):
        lists = read_lists(place.folder / "data" / f"dataset_list_{split}.json")
        for one in lists:
            assert texts[one.documents[0]] == queries[one.queries[0]], "the query's own document is better"
            seen.setdefault(one.queries[0], set()).add(split)
            assert held_out(one.family, 42, 0.1) == (split == "test")
    assert sum(map(len, seen.values())) == len(seen) == 30


@pytest.mark.parametrize("judge", ["likelihood", "pairwise", "head"])
def test_models_that_judge(place: Shell, tiny_lm: Path, head: Path, judge: str) -> None:
    relevance(place)
    flags = ("--relevance-json", "data/relevance_records_embed.json", "--source-csv", "data/df.csv")
    assert fit(place, "sample_dpo_batch", *flags, "--output", "data/set.json", "--n-retrieved", 1).ok
    records = read(place.folder / "data" / "set.json")[:4]
    (place.folder / "data" / "set.json").write_text(json.dumps(records))
    model = ("--model-name", head if judge == "head" else tiny_lm, "--device", "cpu", "--test-share", 0)
    flags = ("--query-key-set", "data/set.json", "--judge", judge, *model)
    outcome = fit(place, "judge_dataset", *flags, "--compare", "all", "--output-dir", "all").ok
    assert f"judge {judge}: 12 pairs; prefers" in outcome.out
    everything = read_lists(place.folder / "all" / "dataset_list_train.json")
    assert len(everything) == 12
    assert fit(place, "judge_dataset", *flags, "--compare", "all", "--output-dir", "again").ok
    assert files(place.folder / "all") == files(place.folder / "again")
    margins = sorted(r["margin"] for r in read(place.folder / "all" / "dataset_list_train.json"))
    assert margins[0] > 0
    middle = (margins[5] + margins[6]) / 2
    assert fit(place, "judge_dataset", *flags, "--compare", "all", "--output-dir", "sure", "--min-margin", middle).ok
    assert len(read(place.folder / "sure" / "dataset_list_train.json")) == 6


def test_a_reward_model_orders_the_candidates(place: Shell, head: Path) -> None:
    before = relevance(place)
    after = relevance(place, "--reward-model", head, "--k-key", 5)
    for one, other in zip(before, after, strict=True):
        assert {key["key_id"] for key in one["keys"][:5]} == {key["key_id"] for key in other["keys"]}
        scores = [key["score"] for key in other["keys"]]
        assert scores == sorted(scores, reverse=True)
    assert [r["keys"][0]["key_id"] for r in before] != [r["keys"][0]["key_id"] for r in after]


def test_ladders_train_the_whole_order(place: Shell, head: Path) -> None:
    relevance(place)
    flags = ("--relevance-json", "data/relevance_records_embed.json", "--source-csv", "data/df.csv")
    assert fit(place, "sample_advanced_dpo_batch", *flags, "--output", "data/adpo_sampled_query_key_set.json").ok
    lists = read_lists(place.folder / "data" / "adpo_sampled_query_key_set.json")
    assert {tuple(one.levels) for one in lists} == {(4, 3, 2, 1, 0)}
    given = ("--input-csv", "data/df.csv", "--queries-json", FILTERED, "--device", "cpu", "--output")
    more = ("data/keys.json", "--keys", "corpus", "--n-key-generation", 3)
    assert fit(place, "make_query_and_less_relevant_keys_recs", *given, *more).ok
    keys = read_lists(place.folder / "data" / "keys.json")
    assert {tuple(one.levels) for one in keys} == {(3, 2, 1, 0)}
    assert fit(place, "make_query_dpo_pairs", *given, "data/query_dpo_pairs.json", "--variant", 2).ok
    queries = read_lists(place.folder / "data" / "query_dpo_pairs.json")
    assert len(queries) == 30
    assert all(len(set(one.queries)) == 5 and len(set(one.documents)) == 1 for one in queries)
    outcome = fit(
        place,
        "train_adpo_lora",
        *("--dataset-list-train", "data/adpo_sampled_query_key_set.json", "--model-name", head, "--test-share", 0.3),
        *("--output-dir", "model", "--device", "cpu", "--learning-rate", 0.01, "--epochs", 2),
    ).ok
    metrics = read(place.folder / "model" / "metrics.json")
    assert metrics["after"]["pairs"] == 10 * metrics["after"]["lists"]
    assert metrics["after"]["margin"] != metrics["before"]["margin"]
    assert "--reward head" in outcome.out


@pytest.mark.parametrize("adpo", [(), ("--adpo",)])
def test_the_pipeline_goes_on_where_it_stopped(
    place: Shell, tiny_lm: Path, head: Path, adpo: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = (place.folder / "data" / "query_recs.json").read_bytes()

    def stands_in(config, say):
        """Random weights write no questions."""
        config.output.write_bytes(written)

    monkeypatch.setattr(writing, "make_query_recs", stands_in)
    flags = ("--corpus", "docs", "--writer", tiny_lm, "--model-name", head, "--device", "cpu", "--epochs", 1, *adpo)
    module, stage = (candidates, "sample_orders") if adpo else (candidates, "judge_dataset")
    assert fit(place, "pipeline", *flags, "--output-dir", "whole").ok
    with monkeypatch.context() as patch:

        def dies(config, say):
            raise RuntimeError("killed")

        patch.setattr(module, stage, dies)
        with pytest.raises(RuntimeError, match="killed"):
            fit(place, "pipeline", *flags, "--output-dir", "killed")
    outcome = fit(place, "pipeline", *flags, "--output-dir", "killed").ok
    assert outcome.out.count("done before") == 4 + (not adpo)
    for name, content in files(place.folder / "whole" / "data").items():
        if not name.startswith(("stages", "train/", "dataset_dict")):
            assert files(place.folder / "killed" / "data")[name] == content, name
    same = "model/adapter/adapter_model.safetensors"
    assert (place.folder / "whole" / same).read_bytes() == (place.folder / "killed" / same).read_bytes()
    again = fit(place, "pipeline", *flags, "--output-dir", "killed").ok
    assert again.out.count("done before") == 5 + (not adpo)
    (place.folder / "docs" / "00.txt").write_text("Something else altogether, in enough words.")
    changed = fit(place, "pipeline", *flags, "--output-dir", "killed")
    assert "give another output_dir, or set overwrite" in changed.error, "a model of other documents is not replaced"
