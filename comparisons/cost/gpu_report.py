"""Tables, picture and sentences of the suite `gpu`, made from its record."""

from pathlib import Path
from typing import Any

from pcrnn.writing import write_file

from ..record import header, table
from .gpu_record import NO_TIME, Document, Result, read, write

BPTT = "bptt"
WITH_RANDOM_NUMBERS = ("dropout", "inference steps")  # of training runs: those of a device are not those of the CPU
Row = dict[str, Any]


def written(path: Path) -> list[Path]:
    """Complete the record with rows and sentences; write gpu.md and, where updates were measured, a picture."""
    document = read(path)
    document["rows"] = update_rows(document)
    differences = difference_rows(results(document, "training"))
    document["summary"] = [*equality(differences), *summary(document["rows"])]
    write(path, document)
    page = path.with_suffix(".md")
    parts = ["# GPU", header(document["environment"]), *document["summary"], *sections(document)]
    write_file(page, "\n\n".join(parts) + "\n")
    timed = [row for row in document["rows"] if row.get("speed_against_bptt") is not None]
    return [path, page, *(picture(timed, path.with_suffix("")) if timed else [])]


def in_words(entry: dict[str, Any]) -> str:
    """How a stage ended."""
    status, reason, seconds = entry["status"], entry.get("reason"), entry.get("seconds")
    why = f": {reason}" if reason else ""
    return f"{status}{why}{'' if seconds is None else f' in {seconds:.0f} s'}"


def results(document: Document, stage: str) -> dict[str, Result]:
    """What a stage has measured."""
    return document["stages"].get(stage, {}).get("results", {})


def update_rows(document: Document) -> list[Row]:
    """A row a learner and contest of the stage `updates`."""
    return [
        {"contest": contest, "learner": learner, **figures}
        for contest, result in results(document, "updates").items()
        for learner, figures in result.get("learners", {}).items()
    ]


def summary(rows: list[Row]) -> list[str]:
    """Speed against BPTT, a sentence a contest."""
    sentences = []
    for contest in dict.fromkeys(row["contest"] for row in rows):
        speeds = [
            f"{row['learner']} {row['speed_against_bptt']:.2f}"
            for row in rows
            if row["contest"] == contest and row["learner"] != BPTT and row.get("speed_against_bptt") is not None
        ]
        sentences.append(f"Speed of an update against BPTT's ({contest}): {'; '.join(speeds)}.")
    return sentences


def equality(rows: list[Row]) -> list[str]:
    """How far apart the training runs of any rule are, a clause a pair of runs."""
    most: dict[str, float] = {}
    for row in rows:
        if not (row["rule"] in WITH_RANDOM_NUMBERS and row["pair"].endswith("/ cpu")):
            most[row["pair"]] = max(most.get(row["pair"], 0.0), row["most"])
    clauses = [f"{pair} {difference:.1e}" for pair, difference in most.items()]
    return [f"Largest relative difference of any metric of training runs: {'; '.join(clauses)}."] if clauses else []


def sections(document: Document) -> list[str]:
    """A table for everything there is."""
    stages = [
        {"stage": name, "how": in_words(entry), "gpu": entry.get("gpu"), "missing": _missing(entry.get("results", {}))}
        for name, entry in document["stages"].items()
    ]
    rates = {"label": "", "ms": "ms", "TB/s": "TB/s", "share_of_copy": "of a copy", "TFLOP/s": "TFLOP/s"}
    learners = {"contest": "size, products, run", "learner": "learner", "ms": "ms an update"}
    learners |= {"tokens_per_second": "tokens/s", "speed_against_bptt": "against BPTT", "failed": "failed"}
    pairs = {"rule": "rule", "pair": "runs", "first": "first update", "most": "most of all updates"}
    runs = {"label": "size, rule, run", "tokens_per_second": "tokens/s"}
    top = {"learner": "learner", "kernel": "kernel", "calls": "calls an update", "ms": "ms an update"}
    tables = {
        "Stages": (stages, {"stage": "stage", "how": "ended", "gpu": "GPU", "missing": "missing"}),
        "Ceilings": (_labelled(results(document, "ceilings")), rates),
        "Training: relative differences of the metrics": (difference_rows(results(document, "training")), pairs),
        "Kernels": (_labelled(results(document, "kernels")), rates),
        "Updates": (document["rows"], learners),
        "Where an update's time goes": (_top_kernels(results(document, "profile")), top),
        "Training runs": (_labelled(results(document, "speeds")), runs),
    }
    return [f"## {title}\n\n{table(rows, columns)}" for title, (rows, columns) in tables.items() if rows]


def _missing(found: dict[str, Result]) -> str:
    """What failed, and how much there was no time for."""
    failed = [f"{label}: {result['failed']}" for label, result in found.items() if "failed" in result]
    late = sum(result.get("skipped") == NO_TIME for result in found.values())
    parts = [*failed, *([f"{late} without time"] if late else [])]
    return " ".join("; ".join(parts).replace("|", "/").split())


def _labelled(found: dict[str, Result]) -> list[Row]:
    return [{"label": label, **result} for label, result in found.items()]


def difference_rows(found: dict[str, Result]) -> list[Row]:
    """A row a rule and pair of runs."""
    return [
        {"rule": rule, "pair": pair, "first": by_update[0], "most": max(by_update)}
        for rule, result in found.items()
        for pair, by_update in result.get("relative_differences", {}).items()
    ]


def _top_kernels(found: dict[str, Result], most: int = 8) -> list[Row]:
    return [
        {"learner": learner, **kernel} for learner, result in found.items() for kernel in result.get("top", [])[:most]
    ]


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """Speed against BPTT, a dot a contest, a line a learner."""
    import seaborn

    from pcrnn.plots import canvas

    learners = list(dict.fromkeys(row["learner"] for row in rows if row["learner"] != BPTT))
    contests = list(dict.fromkeys(row["contest"] for row in rows))
    colours = dict(zip(contests, seaborn.color_palette("colorblind", len(contests)), strict=True))
    with canvas.canvas(9.0, 1.8 + 0.4 * len(learners) + 0.1 * len(contests)) as figure:
        how = "right of the line an update is faster than BPTT's"
        canvas.heading(figure, "Speed of a whole update against BPTT of the same stack", how, canvas.NO_INFO)
        axes = figure.subplots()
        for contest in contests:
            own = [row for row in rows if row["contest"] == contest and row["learner"] != BPTT]
            heights = [len(learners) - 1 - learners.index(row["learner"]) for row in own]
            speeds = [row["speed_against_bptt"] for row in own]
            axes.plot(speeds, heights, "o", color=colours[contest], label=contest, markersize=5, alpha=0.8)
        axes.axvline(1, color=canvas.FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(learners)), learners[::-1])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("times as fast as BPTT")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
