"""The search service, ``python -m searchrl.search.server``: ``routes.py`` lists what it answers to."""
