"""The reference's name for a stage: see ``searchrl.fitting.make_query_dpo_pairs``."""

from searchrl.fitting.make_query_dpo_pairs import main

if __name__ == "__main__":
    main()
