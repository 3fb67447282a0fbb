"""The top_down suite at a tiny size."""

import json

from comparisons import top_down
from comparisons.suite import Request


def test_the_suite_tells_what_nobody_expected_of_every_layer(tmp_path):
    paths = top_down.run(Request(quick=True, seeds=1, out=tmp_path))
    assert [path.name for path in paths] == [f"top_down.{ending}" for ending in ("json", "md", "png", "svg")]
    written = json.loads(paths[0].read_text())
    assert [(row["rule"], row["top_down"]) for row in written["rows"]] == [
        (rule, on) for rule in ("local", "bptt") for on in (False, True)
    ]
    for row in written["rows"]:
        assert len(row["unexpected"]) == len(row["state_surprise"]) == 2 and min(row["unexpected"]) > 0
    assert written["rows"][0]["unexpected"] != written["rows"][1]["unexpected"]
    assert written["summary"][0].startswith("local: what nobody expected of the output goes from layer 1 ")
