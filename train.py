"""See README.md; the command itself is searchrl/cli/train.py."""

from searchrl.cli.train import main

if __name__ == "__main__":
    main()
