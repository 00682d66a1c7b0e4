"""The reference's name for a stage: see ``searchrl.fitting.make_query_and_less_relevant_keys_recs``."""

from searchrl.fitting.make_query_and_less_relevant_keys_recs import main

if __name__ == "__main__":
    main()
