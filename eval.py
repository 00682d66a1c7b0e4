"""See README.md; the command itself is searchrl/cli/evaluate.py."""

from searchrl.cli.evaluate import main

if __name__ == "__main__":
    main()
