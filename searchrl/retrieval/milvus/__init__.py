"""Documents in Milvus: rankings by the vectors and BM25 weights stored there, for corpora larger than memory."""
