"""``searchrl eval``; see README.md."""

from searchrl.cli.evaluate import main

if __name__ == "__main__":
    main()
