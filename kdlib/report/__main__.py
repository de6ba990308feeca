"""What `make` and the graph call.

python -m kdlib.report report [NAME=VALUE …]      run the notebooks: PROFILE, SEEDS, CORES, EXTRA
python -m kdlib.report choose PROFILE             have the data at hand
python -m kdlib.report book [PROFILE]             build the book, by default of the published run
python -m kdlib.report summary PROFILE            print the summary table
python -m kdlib.report publish [PROFILE]          renew the published run: full takes one's own first
python -m kdlib.report export ARM [PROFILE]       write a trained network as ONNX
"""

import inspect
import sys
from collections.abc import Callable

from kdlib.report import book, export, graph, publish
from kdlib.report.execute import Failed
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.files import StorageError
from kdlib.storage.runs import NotTrained


def main(action: str = "", *words: str) -> str | None:
    """Do what the words say; return what is to be printed at the end. ``ValueError`` if they say nothing known."""
    if action == "report" and all("=" in word for word in words):
        return graph.report(dict(word.split("=", 1) for word in words))
    actions: dict[str, Callable[..., str | None]] = {
        "choose": publish.choose, "book": book.build, "summary": publish.summary,
        "publish": publish.publish, "export": export.export,
    }  # fmt: skip
    try:
        inspect.signature(actions[action]).bind(*words)
    except (KeyError, TypeError):
        raise ValueError(__doc__) from None
    return actions[action](*words)


if __name__ == "__main__":
    try:
        text = main(*sys.argv[1:])
    except (OSError, ValueError, NotTrained, DataUnavailable, StorageError, Failed) as error:
        sys.exit(str(error))
    if text:
        print(text)
