"""What every suite shares: the record of a measurement (where, when, with what) and its table."""

import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path("comparisons/results")


def environment() -> dict[str, Any]:
    """Hardware, versions and date of a measurement."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def write(suite: str, config: dict[str, Any], rows: list[dict[str, Any]], out: Path = RESULTS) -> Path:
    """Write one suite's record, `out`/suite.json, and return its path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{suite}.json"
    record = {"suite": suite, "environment": environment(), "config": config, "rows": rows}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown table of the rows; `columns` maps a row's key to its heading."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(key)) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
