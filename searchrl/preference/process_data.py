"""``python -m searchrl.preference.process_data``."""

from searchrl.cli.fit import run_stage

if __name__ == "__main__":
    run_stage("process_data")
