"""The foretold suite at a tiny size."""

import json

from comparisons.mechanisms import foretold
from comparisons.suite import Request


def test_the_suite_tells_what_nobody_expected_of_every_layer(tmp_path):
    paths = foretold.run(Request(quick=True, seeds=1, out=tmp_path))
    assert [path.name for path in paths] == [f"foretold.{ending}" for ending in ("json", "md", "png", "svg")]
    written = json.loads(paths[0].read_text())
    assert [(row["rule"], row["way"]) for row in written["rows"]] == [
        (rule, way) for rule in ("local", "bptt") for way in foretold.WAYS
    ]
    for row in written["rows"]:
        assert len(row["unexpected"]) == len(row["state_surprise"]) == 2 and min(row["unexpected"]) > 0
    shares = [row["unexpected"][0] for row in written["rows"] if row["rule"] == "local"]
    assert len(set(shares)) == len(foretold.WAYS)
    assert written["summary"][0].startswith("local, top-down: what nobody expected of the output goes from layer 1 ")
