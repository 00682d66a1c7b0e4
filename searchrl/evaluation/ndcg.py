"""``python -m searchrl.evaluation.ndcg``: as ``searchrl beir ndcg``."""

from searchrl.cli.beir import ndcg as main

if __name__ == "__main__":
    main()
