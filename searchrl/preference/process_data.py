"""The reference's name for a stage: see ``searchrl.fitting.process_data``."""

from searchrl.fitting.process_data import main

if __name__ == "__main__":
    main()
