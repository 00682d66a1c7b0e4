"""The reference's name for a stage: see ``searchrl.fitting.judge_dataset``."""

from searchrl.fitting.judge_dataset import main

if __name__ == "__main__":
    main()
