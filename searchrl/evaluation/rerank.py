"""``python -m searchrl.evaluation.rerank``: as ``searchrl beir rerank``."""

from functools import partial

from searchrl.cli.beir import run_stage

main = partial(run_stage, "rerank")

if __name__ == "__main__":
    main()
