"""The environment behind a port: ``uvicorn server.app:app``. The queries are those that two variables name."""

from __future__ import annotations

import os

import uvicorn

from searchrl.connect.openenv import make_app
from searchrl.connect.search_tools import SearchTasks

dataset, split = os.environ.get("SEARCHRL_DATASET", "pydocs"), os.environ.get("SEARCHRL_SPLIT", "train")
app = make_app(SearchTasks(dataset, split=split))


def main() -> None:
    """Serve on every interface, as a container does."""
    uvicorn.run(app, host="0.0.0.0", port=8000)


if __name__ == "__main__":
    main()
