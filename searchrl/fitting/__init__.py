"""From documents to a reward model fitted to them: queries, candidates, preferences, LoRA; each stage is a command."""
