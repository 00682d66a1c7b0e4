"""``python -m searchrl.preference.get_top_relevant_keys_embed``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("get_top_relevant_keys_embed")
