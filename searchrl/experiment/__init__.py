"""From settings to results: making the parts, then prepare, train, evaluate."""
