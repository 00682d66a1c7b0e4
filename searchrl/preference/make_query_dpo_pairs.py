"""``python -m searchrl.preference.make_query_dpo_pairs``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("make_query_dpo_pairs")
