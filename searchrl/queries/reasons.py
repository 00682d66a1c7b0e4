"""Why a generated question is rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

LEAST_WORDS, MOST_WORDS = 3, 32
LEAST_TERMS = 2
ROUND_TRIP = 20
"""Documents of a dense search among which every source must be."""
OTHERS = 3
"""Documents that the judge compares the sources with."""

Reason = Literal[
    "no question",
    "length",
    "echo",
    "about the text",
    "copied",
    "repeats itself",
    "duplicate",
    "vague",
    "not found",
    "found by its words",
    "judged lower",
    "surplus",
]

REASONS: Mapping[Reason, str] = {
    "no question": "has no words or no question mark",
    "length": f"shorter than {LEAST_WORDS} words or longer than {MOST_WORDS}",
    "echo": "repeats the prompt's wording",
    "about the text": "speaks of the text or of the question instead of asking",
    "copied": "is mostly words in a row from the document",
    "repeats itself": "says the same three words twice",
    "duplicate": "was asked before, or nearly so of the same document",
    "vague": f"has fewer than {LEAST_TERMS} words that BM25 can search the corpus for",
    "not found": f"a dense search does not return its documents among the first {ROUND_TRIP}",
    "found by its words": "adversarial, but BM25 puts its document first",
    "judged lower": f"the judge likes one of {OTHERS} other documents at the top better",
    "surplus": "good, but there were enough",
}
"""In the order of the checks."""
