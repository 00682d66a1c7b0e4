"""``python -m searchrl.evaluation.embed``: as ``searchrl beir embed``."""

from searchrl.cli.beir import embed as main

if __name__ == "__main__":
    main()
