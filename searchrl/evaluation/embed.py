"""``python -m searchrl.evaluation.embed``: as ``searchrl beir embed``."""

from functools import partial

from searchrl.cli.beir import run_stage

main = partial(run_stage, "embed")

if __name__ == "__main__":
    main()
