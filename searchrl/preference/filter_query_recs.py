"""``python -m searchrl.preference.filter_query_recs``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("filter_query_recs")
