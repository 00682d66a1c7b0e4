"""The HTTP service, ``searchrl serve``: ``routes.py`` lists what it answers to."""
