"""What the suite of streams says: sentences follow from rows, and nothing is said where a search ended at its edge."""

import pytest
from pcrnn.comparisons.streams import detection_part, words
from pcrnn.comparisons.streams.detection import ALONE, NATS, SCORE, WITH_RULE
from pcrnn.comparisons.streams.nab_score import PROFILES
from pcrnn.comparisons.streams.words import OURS, Measured, Unit

INSIDE = {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}
EDGE = {"lr": 1e-2, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": 1.0}}
BITS, POINTS = Unit(" bits", 2), Unit("", 1, higher_is_better=True)


def measured(who: str, *values: float | None, search: dict | None = None) -> Measured:
    return Measured(who, values, {who: search} if search else {}, "")


def said(*found: Measured, unit: Unit = BITS, **how: bool) -> list[str]:
    return words.sentences("s", found, unit, **how)


@pytest.mark.parametrize(
    ("theirs", "begin"),
    [
        (
            (2.5, 2.7),
            "Wins: s: local, chunk 1 (2.10 bits) is 0.50 ± 0.00 bits ahead of the best BPTT of the same stack (",
        ),
        (
            (1.5, 1.7),
            "Loses: s: local, chunk 1 (2.10 bits) is 0.50 ± 0.00 bits behind the best BPTT of the same stack (",
        ),
        ((2.5, 1.9), "Level: s: local, chunk 1 (2.10 bits) is level (lead +0.10 ± 0.57) with the best BPTT"),
    ],
)
def test_a_verdict_follows_from_seeds_in_pairs(theirs, begin):
    found = said(measured(OURS, 2.0, 2.2, search=INSIDE), measured("bptt, chunk 8", *theirs, search=INSIDE))
    assert len(found) == 1 and found[0].startswith(begin)
    assert f"(bptt, chunk 8, {sum(theirs) / 2:.2f} bits)" in found[0]


def test_higher_may_be_better():
    found = said(measured(OURS, 60.0, search=INSIDE), measured("GRU, chunk 8", 50.0, search=INSIDE), unit=POINTS)
    assert found == ["Wins: s: local, chunk 1 (60.0) is 10.0 ahead of the best outside network (GRU, chunk 8, 50.0)."]


def test_each_kind_has_its_best_or_all_of_them_one():
    others = [("local, chunk 8", 5.0), ("bptt, chunk 8", 4.0), ("bptt, chunk 32", 3.0), ("LSTM, chunk 8", 2.0)]
    found = [measured(OURS, 1.0, search=INSIDE), *(measured(who, bits, search=INSIDE) for who, bits in others)]
    of_kinds = said(*found)
    assert [sentence.split(" of the ")[-1].split("(")[-1].split(", ")[1] for sentence in of_kinds] == [
        "chunk 8",
        "chunk 32",
        "chunk 8",
    ]
    (best,) = said(*found, of_kinds=False)
    assert "1.00 bits ahead of the best other learner (LSTM, chunk 8, 2.00 bits)" in best


def test_who_has_no_model_is_named_where_it_is_not_behind():
    ours = measured(OURS, 2.0, 2.2, search=INSIDE)
    assert said(ours, measured("copy-last", 3.0)) == []
    (sentence,) = said(ours, measured("copy-last", 1.0), measured("unigram", 1.5))
    assert sentence.startswith(
        "Loses: s: local, chunk 1 (2.10 bits) is 1.10 ± 0.14 bits behind the best without a model"
    )
    assert "(copy-last, 1.00 bits)" in sentence


def test_nothing_is_claimed_where_a_search_ended_at_its_edge():
    ours, theirs = measured(OURS, 2.0, search=INSIDE), measured("bptt, chunk 8", 9.0, search=EDGE)
    assert said(ours, theirs) == [
        "No claim: s: local, chunk 1 beside the best BPTT of the same stack (bptt, chunk 8): the search ended at its "
        "edge for bptt, chunk 8 (rate 0.01)."
    ]


def test_who_diverged_is_beside_nobody():
    assert said(measured(OURS, None, search=INSIDE), measured("bptt, chunk 8", 1.0, search=INSIDE)) == []
    assert said(measured(OURS, 1.0, search=INSIDE), measured("bptt, chunk 8", None, search=INSIDE)) == []


def detection_row(who: str, chosen_by: str | None, nats: float | None, standard: float, search: dict | None) -> dict:
    scores = {profile: [standard, standard] for profile in PROFILES}
    folds = {fold: search for fold in "AB"} if search else {}
    figures = {"nats": [nats] * (2 if search else 1), ALONE: scores, WITH_RULE: scores, "us": 1.0, "parameters": 5}
    return {"part": "nab", "who": who, "chosen_by": chosen_by, "folds": folds} | figures


def test_anomalies_are_judged_by_nats_and_by_both_scores():
    rows = [
        detection_row(who, way, nats, score, INSIDE)
        for who, nats, score in ((OURS, 1.0, 50.0), ("GRU, chunk 8", 2.0, 60.0))
        for way in (NATS, SCORE)
    ]
    rows.append(detection_row("copy-last", None, 0.5, 40.0, None))
    found = detection_part.NAB.summary(rows)
    assert [sentence.partition(":")[0] for sentence in found] == ["Wins", "Loses", "Loses", "Loses", "Loses", "Loses"]
    assert found[0].startswith(
        "Wins: anomalies, surprise in one pass: local, chunk 1 (1.000 nats/step) is 1.000 ± 0.000"
    )
    assert "behind the best without a model (copy-last, 0.500 nats/step)" in found[1]
    assert [sentence.split(": ")[1] for sentence in found[2:]] == [
        f"anomalies, standard score, {treatment}, rates chosen by {way}"
        for treatment in (ALONE, WITH_RULE)
        for way in ("surprise", "score")
    ]
    rows[0]["folds"]["B"] = EDGE
    assert detection_part.NAB.summary(rows)[0].endswith("ended at its edge for local, chunk 1, fold B (rate 0.01).")
    assert "(edge)" in detection_part.NAB.tables(rows)[0]
