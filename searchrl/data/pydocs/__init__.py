"""The embedded dataset: the standard library of the running interpreter, and questions about it."""
