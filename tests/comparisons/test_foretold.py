"""The foretold suite at a tiny size."""

import json

import pytest
from pcrnn.comparisons.mechanisms import foretold
from pcrnn.comparisons.suite import Request

from pcrnn.errors import DataError, DivergedError


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


def test_a_table_is_refused(tmp_path):
    """Its percentages are of bits a character; nats of a density have no zero."""
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n3,4\n" * 200)
    with pytest.raises(DataError, match="expected text data, got series data"):
        foretold.run(Request(quick=True, out=tmp_path, data=tmp_path / "x.csv"))


def rows_of(edge: str = "") -> list[dict]:
    """Rows of every way, whose search ended inside but for one way's."""
    inside, at_edge = {"0.001": 3.0, "0.003": 2.0, "0.01": None}, {"0.001": 3.0, "0.003": 2.0}
    return [
        {"rule": "local", "way": way, "seed": 0, "metric": 2.0 + 0.1 * place, "unexpected": [0.5, 0.25], "lr": 3e-3}
        | {"search": at_edge if way == edge else inside}
        for place, way in enumerate(foretold.WAYS)
    ]


def test_bits_are_compared_where_the_searches_of_both_ended_inside():
    top_down, *others = foretold.summary(rows_of())
    assert top_down.endswith("layer 1 50.0% to 50.0%, layer 2 25.0% to 25.0%; bits a character +5.0 %.")
    found = foretold.summary(rows_of("top-down"))
    assert found[0].endswith(
        "25.0%; no claim of bits a character: the search ended at its edge for top-down (rate 0.003)."
    )
    assert found[1:] == others
    assert all("ended at its edge for plain" in said for said in foretold.summary(rows_of(foretold.PLAIN)))


def test_a_way_that_diverges_at_every_rate_is_said_to(monkeypatch):
    def diverge(*_):
        raise DivergedError("not finite")

    monkeypatch.setattr(foretold, "measure", diverge)
    with pytest.raises(DivergedError, match="not finite"):
        foretold.searched_rows(None, "local", {}, foretold.QUICK, range(1))  # type: ignore[arg-type]
