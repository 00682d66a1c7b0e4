"""Which method is better, where, and is it real? Metrics, statistics, comparison, result files."""
