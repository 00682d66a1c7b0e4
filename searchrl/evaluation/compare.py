"""``python -m searchrl.evaluation.compare``: as ``searchrl compare``."""

from searchrl.cli.compare import main as main

if __name__ == "__main__":
    main()
