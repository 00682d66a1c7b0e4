"""``python -m searchrl.tagtree.embed_tags``."""

from searchrl.cli.tags import run_stage

if __name__ == "__main__":
    run_stage("embed_tags")
