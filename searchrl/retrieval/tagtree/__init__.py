"""Tags of documents, a tree of them, and the way down it from a query to documents."""
