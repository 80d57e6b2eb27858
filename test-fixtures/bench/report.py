"""Medians of the runs as text, as the table of docs/performance.md, and as a page with plots."""

import html as escape
import statistics

MIB = 1 << 20
PIPE = "zstd | aws"
OURS = "stockpot"
COLOURS = {OURS: "#1b6ca8", PIPE: "#c8553d", "restic": "#588157", "borg (local)": "#8d6a9f"}
FIELDS = ("wall_s", "cpu_s", "server_cpu_s", "peak_bytes", "stored_bytes", "requests")


def medians(results):
    """One row for each client, image and thing done, in the order in which they came first."""
    groups = {}
    for row in results:
        groups.setdefault((row["image"], row["what"], row["client"]), []).append(row)
    rows = []
    for (image, what, client), runs in groups.items():
        row = {"image": image, "what": what, "client": client}
        for field in FIELDS:
            if all(field in run for run in runs):
                row[field] = statistics.median(run[field] for run in runs)
        rows.append(row)
    rows.sort(key=lambda row: [list(groups).index(key) for key in groups if key[:2] == (row["image"], row["what"])][0])
    return rows


def cells(row, rows):
    """The columns of a row; ratios to the pipe doing the same, or all it can do instead."""
    base = pipe_of(row, rows)
    ratio = lambda field: f"{row[field] / base[field]:.2f}" if base and base is not row else ""
    stored = f"{row['stored_bytes'] / MIB:,.1f}" if "stored_bytes" in row else ""
    return [f"{row['image']}: {row['what']}", row["client"], f"{row['wall_s']:.2f}", ratio("wall_s"), f"{row['cpu_s']:.2f}",
            ratio("cpu_s"), f"{row['server_cpu_s']:.2f}", f"{row['peak_bytes'] / MIB:.0f}", stored, f"{row['requests']:.0f}"]


HEAD = ["what", "client", "wall s", "of the pipe's", "CPU s", "of the pipe's", "server's CPU s", "peak MiB", "stored MiB", "requests"]


def pipe_of(row, rows):
    what = "restore" if row["what"] == "restore" else "full"
    same = [r for r in rows if r["client"] == PIPE and r["image"] == row["image"] and r["what"] == what]
    return same[0] if same else None


def text(rows, runs) -> str:
    table = [HEAD] + [cells(row, rows) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))) for line in table]
    return f"\nmedians of {runs} runs; every restored image was compared byte by byte\n\n" + "\n".join(lines)


def markdown(rows) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "| --- | --- |" + " ---: |" * (len(HEAD) - 2)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row, rows)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def html(rows, runs) -> str:
    compared = [row for row in rows if not row["image"].startswith("G")]
    grown = [row for row in rows if row["image"].startswith("G")]
    parts = [bars(compared, "wall_s", "Wall seconds"), bars(compared, "cpu_s", "CPU seconds of the client"),
             bars(compared, "peak_bytes", "Peak memory, MiB", MIB)]
    if grown:
        parts += [lines_of(grown, "wall_s", "Wall seconds by the volume's size", 1),
                  lines_of(grown, "peak_bytes", "Peak memory in MiB by the volume's size", MIB),
                  lines_of(grown, "requests", "Requests by the volume's size", 1)]
    table = "".join("<tr>" + "".join(f"<td>{escape.escape(c)}</td>" for c in cells(row, rows)) + "</tr>" for row in rows)
    head = "".join(f"<th>{escape.escape(c)}</th>" for c in HEAD)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Stockpot: benchmarks</title>
<style>body{{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse;font-size:13px}}
td,th{{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}}td:nth-child(-n+2),th:nth-child(-n+2){{text-align:left}}</style>
<h1>Stockpot: benchmarks</h1><p>Medians of {runs} runs by turns on one machine, with the S3 server on it too. Every restored image
was compared byte by byte. Compare figures of one run only.</p>{''.join(parts)}<h2>All figures</h2><table><tr>{head}</tr>{table}</table></html>
"""


def bars(rows, field, title, unit=1) -> str:
    """Horizontal bars, those of one task together."""
    rows = [row for row in rows if field in row]
    most = max((row[field] / unit for row in rows), default=1) or 1
    y, out, last = 10, [], None
    for row in rows:
        task = f"{row['image']}: {row['what']}"
        if task != last:
            y += 8
            out.append(f'<text x="180" y="{y + 12}" text-anchor="end">{escape.escape(task)}</text>')
            last = task
        value = row[field] / unit
        width = max(1, 560 * value / most)
        out.append(f'<rect x="190" y="{y}" width="{width:.1f}" height="14" fill="{COLOURS.get(row["client"], "#888")}"/>'
                   f'<text x="{195 + width:.1f}" y="{y + 12}">{value:,.2f} {escape.escape(row["client"])}</text>')
        y += 16
    return figure(title, y + 10, out)


def lines_of(rows, field, title, unit) -> str:
    """One line for uploads, one for restores, over the size on a logarithmic scale (each step is four times the last)."""
    sizes = sorted({int(row["image"][1:]) for row in rows})
    place = {size: 90 + i * (640 / max(1, len(sizes) - 1)) for i, size in enumerate(sizes)}
    most = max(row[field] / unit for row in rows) or 1
    out = [f'<text x="{x}" y="250" text-anchor="middle">{size} GiB</text>' for size, x in place.items()]
    out += [f'<line x1="80" y1="230" x2="760" y2="230" stroke="#999"/><text x="70" y="234" text-anchor="end">0</text>',
            f'<text x="70" y="34" text-anchor="end">{most:,.1f}</text><line x1="80" y1="30" x2="760" y2="30" stroke="#eee"/>']
    for what, colour in (("full", "#1b6ca8"), ("restore", "#c8553d")):
        points = sorted((int(r["image"][1:]), r[field] / unit) for r in rows if r["what"] == what)
        path = " ".join(f"{place[size]:.0f},{230 - 200 * value / most:.0f}" for size, value in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if points:
            size, value = points[-1]
            out.append(f'<text x="{place[size] + 8:.0f}" y="{230 - 200 * value / most:.0f}" fill="{colour}">{what} {value:,.2f}</text>')
    return figure(title, 260, out)


def figure(title, height, shapes) -> str:
    return (f"<h2>{escape.escape(title)}</h2><svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 {height:.0f}' "
            f"width='900' font-family='sans-serif' font-size='12'>{''.join(shapes)}</svg>")
