"""The matrix as a table of 100 columns: one heading per scenario, one line per pair."""

from itertools import groupby

from lab.rows import agrees

WIDTH = 100
_HEAD = ("pair", "asked", "predicted", "observed", "outcome", "cause", "register", "write")
_RIGHT = ("register", "write")
_INDENT = " "


def table(rows: list[dict]) -> str:
    lines = [_line(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(_HEAD, *lines)]
    room = WIDTH - len(_INDENT) - sum(widths)
    gap = min(max(room // (len(widths) - 1), 1), 2)
    # If the table is still too wide, cut the front of the pair's name; matrix.json has
    # the whole name.
    widths[0] += min(room - gap * (len(widths) - 1), 0)
    text = [_render(_HEAD, widths, gap)]
    for scenario, group in groupby(zip(rows, lines), key=lambda pair: pair[0]["scenario"]):
        group = list(group)
        text.append(scenario)
        # Every row of a scenario has the same guest_disagreements.
        text += [f"{_INDENT}! {why}" for why in group[0][0]["guest_disagreements"]]
        for row, line in group:
            text.append(_render(line, widths, gap))
            text += [f"{_INDENT}! {why}" for why in row["disagreements"]]
    return "".join(f"{line.rstrip()}\n" for line in text)


def summary(rows: list[dict]) -> str:
    agree = sum(map(agrees, rows))
    scenarios = len({row["scenario"] for row in rows})
    seen = sorted({row["observed"] for row in rows})
    agreement = f"{agree} of {len(rows)} pairs in {scenarios} scenarios agree"
    return f"{agreement}; observed paths: {', '.join(seen)}"


def _render(cells: tuple[str, ...], widths: list[int], gap: int) -> str:
    padded = [
        _cut(cell, width).rjust(width) if head in _RIGHT else _cut(cell, width).ljust(width)
        for head, cell, width in zip(_HEAD, cells, widths)
    ]
    return _INDENT + (" " * gap).join(padded)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"~{cell[len(cell) - width + 1 :]}"


def _line(row: dict) -> tuple[str, ...]:
    return (
        row["pair"],
        _path(row["asked"]),
        _path(row["predicted"]),
        _path(row["observed"]),
        row["outcome"],
        row["cause"] or "-",
        _time(row.get("register_p50_ns")),
        _time(row.get("write_p50_ns")),
    )


def _path(name: str | None) -> str:
    """Short name of the path, to save columns; --path accepts it, too."""
    return (name or "-").removeprefix("host-bridge-")


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return "-"
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if time_ns >= size:
            value = time_ns / size
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return f"{time_ns} ns"
