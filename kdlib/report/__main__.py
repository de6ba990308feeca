"""What `make` calls around the notebooks.

python -m kdlib.report choose [PROFILE]    have the data at hand and print the profile to run
python -m kdlib.report summary PROFILE     write index.html, print the summary table and where to look
python -m kdlib.report publish [PROFILE]   renew the published run: full takes over one's own run first
"""

import argparse
import sys

from kdlib.report import publish
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.files import StorageError
from kdlib.storage.runs import NotTrained

parser = argparse.ArgumentParser(prog="python -m kdlib.report", description=__doc__.splitlines()[0])
parser.add_argument("action", choices=["choose", "summary", "publish"])
parser.add_argument("profile", nargs="?", help="smoke, quick or full; may be left out for choose and publish")
arguments = parser.parse_args()
if arguments.action == "summary" and arguments.profile is None:
    parser.error("summary needs a profile: smoke, quick or full.")
try:
    text = getattr(publish, arguments.action)(arguments.profile)
except (OSError, ValueError, NotTrained, DataUnavailable, StorageError) as error:
    sys.exit(str(error))
if text:
    print(text)
