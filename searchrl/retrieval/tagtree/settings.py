"""How tags are chosen and how they become a tree; the defaults are also those of Search."""

from __future__ import annotations

from dataclasses import dataclass

from searchrl.config import at_least, between
from searchrl.errors import ConfigError

MIN_DOCUMENTS = 8


@dataclass(frozen=True)
class TagSettings:
    """Which tags a collection gets."""

    tags_per_document: int = 8
    """Tags of a document, at most."""
    min_documents: int = 0
    """Drop tags of fewer documents; 0: 8, and less below 700 documents."""
    max_share: float = 0.1
    """Drop tags of more than this share of the documents."""

    def __post_init__(self) -> None:
        """Refuse what gives no tags."""
        at_least("tags_per_document", self.tags_per_document, 1)
        at_least("min_documents", self.min_documents, 0)
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share {self.max_share}: must be above 0 and at most 1")

    def least(self, documents: int) -> int:
        """Documents that a tag must have in a collection of so many."""
        return self.min_documents or min(MIN_DOCUMENTS, 1 + documents // 100)


@dataclass(frozen=True)
class TreeSettings:
    """How tags become a tree."""

    text_share: float = 0.1
    """Share of the tag's own text in its vector; the rest is the mean of its documents' vectors."""
    nearest: int = 8
    """Tags that each document joins besides its own: those most like it. Without tags of its own it joins at least
    one."""
    branching: int = 8
    """Children of a node, at most."""
    leaf_size: int = 8
    """Tags that are not divided any further."""
    representatives: int = 4
    """Tags that stand for a node: near its middle, and with many documents."""

    def __post_init__(self) -> None:
        """Refuse what is no tree."""
        between("text_share", self.text_share, 0, 1)
        for name, least in (("nearest", 0), ("branching", 2), ("leaf_size", 1), ("representatives", 1)):
            at_least(name, getattr(self, name), least)
