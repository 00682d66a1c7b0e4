"""The documents of ``pydocs``: docstrings of the running interpreter's standard library.

Nothing is downloaded and nothing is shipped: every Python carries these documents. For one Python version the ids,
texts and their order are always the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from searchrl.data.dataset import Corpus
from searchrl.errors import DataError


@lru_cache(maxsize=1)
def load_corpus() -> Corpus:
    """Read the standard library's documentation: about four thousand documents, in name order.

    Takes a second: a fresh interpreter reads them, see ``docstrings.py``. Raises DataError when it cannot be started.
    """
    script = Path(__file__).with_name("docstrings.py")
    # -I -S: no environment variables, no site-packages; nothing but the standard library itself.
    done = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DataError(f"the standard library's docstrings cannot be read ({' '.join(reason)}); use another --dataset")
    documents = json.loads(done.stdout)
    return Corpus([d[0] for d in documents], [d[1] for d in documents], [d[2] for d in documents])
