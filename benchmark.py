"""``searchrl benchmark``; see README.md."""

from searchrl.cli.benchmark import main

if __name__ == "__main__":
    main()
