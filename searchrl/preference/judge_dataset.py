"""``python -m searchrl.preference.judge_dataset``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("judge_dataset")
