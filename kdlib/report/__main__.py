"""What `make` and the graph call.

python -m kdlib.report report [NAME=VALUE …]      run the notebooks: PROFILE, SEEDS, CORES, EXTRA
python -m kdlib.report choose PROFILE             have the data at hand
python -m kdlib.report book [PROFILE]             build the book, by default of the published run
python -m kdlib.report summary PROFILE            print the summary table
python -m kdlib.report publish [PROFILE]          renew the published run: full takes one's own first
python -m kdlib.report export ARM [PROFILE]       write a trained network as ONNX
"""

import sys

from kdlib.report import book, export, graph, publish
from kdlib.report.execute import Failed
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.files import StorageError
from kdlib.storage.runs import NotTrained


def main(action: str = "", *words: str) -> str | None:
    """Do what the words say; return what is to be printed at the end."""
    if action == "report":
        return graph.report(dict(word.split("=", 1) for word in words))
    if action == "book":
        return book.build(*words)
    if action == "export":
        return export.export(*words)
    if action in ("choose", "summary", "publish"):
        return getattr(publish, action)(*words)
    raise ValueError(__doc__)


if __name__ == "__main__":
    try:
        text = main(*sys.argv[1:])
    except (OSError, ValueError, NotTrained, DataUnavailable, StorageError, Failed) as error:
        sys.exit(str(error))
    if text:
        print(text)
