"""The reference's name for a stage: see ``searchrl.fitting.sample_dpo_batch``."""

from searchrl.fitting.sample_dpo_batch import main

if __name__ == "__main__":
    main()
