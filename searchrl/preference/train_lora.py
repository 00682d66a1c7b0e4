"""The reference's name for a stage: see ``searchrl.fitting.train_lora``."""

from searchrl.fitting.train_lora import main

if __name__ == "__main__":
    main()
