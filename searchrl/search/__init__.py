"""Search over any texts with a reward model: ``from searchrl import Search, Services``."""
