"""Datasets: documents, queries and human judgments, from wherever they come."""
