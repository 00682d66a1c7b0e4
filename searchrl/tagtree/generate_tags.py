"""``python -m searchrl.tagtree.generate_tags``."""

from searchrl.cli.tags import run_stage

if __name__ == "__main__":
    run_stage("generate_tags")
