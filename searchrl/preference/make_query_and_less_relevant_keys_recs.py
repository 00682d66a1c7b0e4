"""``python -m searchrl.preference.make_query_and_less_relevant_keys_recs``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("make_query_and_less_relevant_keys_recs")
