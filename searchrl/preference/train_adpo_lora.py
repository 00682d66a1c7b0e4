"""``python -m searchrl.preference.train_adpo_lora``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("train_adpo_lora")
