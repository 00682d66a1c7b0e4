"""The search service, ``python -m searchrl.service``: ``routes.py`` lists what it answers to."""
