"""``python -m searchrl.preference.pipeline``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("pipeline")
