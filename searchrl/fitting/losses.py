"""What training minimises, given the scores of one preference list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

LossName = Literal["pairwise", "listwise"]


def pairwise_loss(scores: Tensor, levels: Tensor) -> Tensor:
    """Mean over all ordered pairs of -log P(better beats worse), P by Bradley and Terry (1952): a logistic of the
    difference of scores.

    scores: (n,). levels: (n,) integers, not all equal. Returns a scalar.
    """
    from torch.nn.functional import softplus

    better = levels[:, None] > levels[None, :]
    return softplus(scores[None, :] - scores[:, None])[better].mean()


def listwise_loss(scores: Tensor, levels: Tensor) -> Tensor:
    """-log-likelihood of the list's order under the Plackett-Luce model (Plackett 1975), per choice made.

    ListMLE (Xia, Liu, Wang, Zhang, Li 2008, "Listwise approach to learning to rank: theory and algorithm"): the best is
    chosen among all, the next among the rest, and so on. Of equals, each is chosen over what lies below it, and never
    over one another; so one positive among negatives is a softmax cross-entropy, and a pair is Bradley and Terry's.

    scores: (n,). levels: (n,) integers, not all equal. Returns a scalar.
    """
    import torch

    rivals = (levels[:, None] > levels[None, :]) | torch.eye(len(levels), dtype=torch.bool, device=levels.device)
    chosen = rivals.sum(1) > 1
    among = scores[None, :].expand(len(scores), -1).masked_fill(~rivals, float("-inf")).logsumexp(1)
    return (among - scores)[chosen].mean()


def loss_across(scores: Tensor, levels: list[Tensor]) -> Tensor | None:
    """Bradley and Terry's loss between lists: what is best in one should outscore what is worst in each other one.

    Without it scores have no common scale: only differences within a list are learned. What lies between best and worst
    is left out, for levels of different lists need not mean the same. scores: (total,), list after list. Returns a
    scalar; None for a single list.
    """
    import torch
    from torch.nn.functional import softplus

    if len(levels) < 2:
        return None
    best = torch.cat([level == level.max() for level in levels])
    worst = torch.cat([level == level.min() for level in levels])
    sizes = torch.tensor([len(level) for level in levels], device=best.device)
    of = torch.arange(len(levels), device=best.device).repeat_interleave(sizes)
    compared = best[:, None] & worst[None, :] & (of[:, None] != of[None, :])
    return softplus(scores[None, :] - scores[:, None])[compared].mean()


def list_losses(name: LossName, scores: Tensor, levels: list[Tensor], across: bool = False) -> Tensor:
    """Mean loss of several lists whose scores (total,) stand one after another; with ``across``, the mean of that and
    of the loss between them.
    """
    import torch

    loss = pairwise_loss if name == "pairwise" else listwise_loss
    parts = torch.split(scores, [len(part) for part in levels])
    within = torch.stack([loss(part, level) for part, level in zip(parts, levels, strict=True)]).mean()
    between = loss_across(scores, levels) if across else None
    return within if between is None else (within + between) / 2
