"""SearchRL learns how to search."""

__version__ = "0.1.0"
