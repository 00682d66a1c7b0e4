"""The reference's name for a stage: see ``searchrl.fitting.train_adpo_lora``."""

from searchrl.fitting.train_adpo_lora import main

if __name__ == "__main__":
    main()
