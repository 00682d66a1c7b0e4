"""``searchrl train``; see README.md."""

from searchrl.cli.train import main

if __name__ == "__main__":
    main()
