"""See README.md; the command itself is searchrl/cli/benchmark.py."""

from searchrl.cli.benchmark import main

if __name__ == "__main__":
    main()
