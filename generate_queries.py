"""``searchrl generate-queries``; see README.md."""

from searchrl.cli.generate_queries import main

if __name__ == "__main__":
    main()
