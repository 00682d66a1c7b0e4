"""Names of stages that users of the reference know: ``python -m searchrl.tagtree.STAGE`` is ``searchrl tags STAGE``."""
