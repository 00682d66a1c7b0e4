"""``python -m searchrl.evaluation.ndcg``: as ``searchrl beir ndcg``."""

from functools import partial

from searchrl.cli.beir import run_stage

main = partial(run_stage, "ndcg")

if __name__ == "__main__":
    main()
