"""The reference's name for a stage: see ``searchrl.fitting.pipeline``."""

from searchrl.fitting.pipeline import main

if __name__ == "__main__":
    main()
