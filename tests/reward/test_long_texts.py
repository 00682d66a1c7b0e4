"""Texts longer than a model reads: cut to what its positions and its tokenizer allow, by every reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from searchrl.models.folders import minilm_folder
from searchrl.models.tokens import readable_tokens
from searchrl.reward.head import CrossEncoderReward, HeadReward

POSITIONS = 66


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Positions begin behind the padding's, 1: two fewer tokens fit than there are positions."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        num_labels=1,
        max_position_embeddings=POSITIONS,
        type_vocab_size=2,
        pad_token_id=1,
        **shape,
    )
    torch.manual_seed(0)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", [HeadReward, CrossEncoderReward])
def test_a_long_document_is_cut_and_the_short_one_scores_as_alone(roberta: Path, kind: type) -> None:
    reward = kind(roberta)
    scores = reward.score(["what rises?"] * 3, ["bread rises . " * 200, "bread rises .", "word " * (POSITIONS - 1)])
    assert scores[1] == pytest.approx(reward.score(["what rises?"], ["bread rises ."])[0], rel=1e-4)


def test_the_limit_allows_for_where_positions_begin(roberta: Path) -> None:
    reward = HeadReward(roberta)
    assert reward.max_length == POSITIONS - 2
    assert readable_tokens(reward._model, reward._tokenizer) == POSITIONS - 2
