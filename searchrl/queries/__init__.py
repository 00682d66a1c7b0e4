"""Synthetic queries out of documents: what is asked about, how, what is kept, and in which form it is written."""
