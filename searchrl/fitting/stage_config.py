"""Flags that several stages have."""

from __future__ import annotations

from dataclasses import dataclass, field

from searchrl.config import DtypeName, EngineConfig


@dataclass(frozen=True)
class LanguageModelConfig:
    """Who writes or judges."""

    model_name: str | None = None
    """A causal language model: preset, hub name or folder; by default the device's (on a cpu smollm2-135m, which is
    installed with SearchRL), or the one served."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    dtype: DtypeName = "auto"
    """Numeric format of the model."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    cache: bool = True
    """Keep answers, vectors and scores, so that a killed command goes on where it stopped."""
