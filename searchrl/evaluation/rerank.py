"""``python -m searchrl.evaluation.rerank``: as ``searchrl beir rerank``."""

from searchrl.cli.beir import rerank as main

if __name__ == "__main__":
    main()
