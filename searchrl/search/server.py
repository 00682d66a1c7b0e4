"""``python -m searchrl.search.server``: as ``searchrl serve``."""

from searchrl.cli.serve import main

if __name__ == "__main__":
    main()
