"""``python -m searchrl.tagtree.assign``."""

from searchrl.cli.tags import run_stage

if __name__ == "__main__":
    run_stage("assign")
