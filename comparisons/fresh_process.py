"""The other side of `record.in_fresh_process`: calls a pickled function and prints what it returns as JSON."""

import base64
import json
import pickle
import sys

from .record import RESULT_MARK

if __name__ == "__main__":
    function, arguments = pickle.loads(base64.b64decode(sys.argv[1]))
    if (result := function(*arguments)) is not None:
        print(f"{RESULT_MARK}{json.dumps(result)}", flush=True)
