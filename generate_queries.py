"""See README.md; the command itself is searchrl/cli/generate_queries.py."""

from searchrl.cli.generate_queries import main

if __name__ == "__main__":
    main()
