"""The reference's name for a stage: see ``searchrl.fitting.filter_query_recs``."""

from searchrl.fitting.filter_query_recs import main

if __name__ == "__main__":
    main()
