"""``python -m searchrl.preference.sample_dpo_batch``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("sample_dpo_batch")
