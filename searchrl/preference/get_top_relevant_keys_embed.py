"""The reference's name for a stage: see ``searchrl.fitting.get_top_relevant_keys_embed``."""

from searchrl.fitting.get_top_relevant_keys_embed import main

if __name__ == "__main__":
    main()
