#!/usr/bin/env python3
"""Makes docs/images/terminal.png: a server, a few jobs that really run, and what a terminal then shows.

    scripts/screenshot.py RUNSTONE_BINARY [PNG]

Needs Chromium and the font DejaVu Sans Mono. Nothing in the picture is drawn by hand: commands run on a pseudo-terminal, and
their colours become HTML.
"""

import fcntl
import html
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

COLUMNS, ROWS = 126, 60
FONT_PX, LINE_PX, PADDING_PX = 14, 19, 18
SCALE = 1.5
COLOURS = {"9": "#f47067", "10": "#57ab5a", "11": "#daaa3f", "12": "#6cb6ff"}

JOBS = {
    "fetch": """
        import csv, random
        with open("orders.csv", "w", newline="") as file:
            out = csv.writer(file)
            for order in range(1, 48_201):
                out.writerow([order, random.randint(1, 900), "" if order % 9001 == 0 else random.randint(1, 300)])
        print("INFO fetched 48200 orders")
    """,
    "clean": """
        import csv
        with open("orders.csv") as source, open("clean.csv", "w", newline="") as target:
            out = csv.writer(target)
            for order in csv.reader(source):
                if order[2]:
                    out.writerow(order)
                else:
                    print(f"WARNING order {order[0]} has no amount: dropped")
    """,
    "load": """
        import csv, sqlite3
        database = sqlite3.connect("shop.db")
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", csv.reader(open("clean.csv")))
        database.commit()
        print("INFO loaded", database.execute("SELECT count(*) FROM orders").fetchone()[0], "orders")
    """,
    "report": """
        import sqlite3
        database = sqlite3.connect("shop.db")
        database.execute("SELECT name, sum(amount) FROM orders JOIN customers USING (customer) GROUP BY name")
    """,
}
SHOWN = [
    ["runstone", "runs"],
    ["runstone", "query", "SELECT type, level, message FROM logs WHERE stage = 'report' ORDER BY position"],
]


def on_terminal(command, env, cwd):
    """What a command prints on a terminal of this size."""
    terminal, child_side = pty.openpty()
    fcntl.ioctl(child_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    child = subprocess.Popen(command, env=env, cwd=cwd, stdin=child_side, stdout=child_side, stderr=child_side)
    os.close(child_side)
    output = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            break
        output += part
    os.close(terminal)
    if child.wait() != 0:
        sys.exit(f"{command}: {output.decode()}")
    return output.decode().replace("\r\n", "\n")


def to_html(text):
    """Bold and the sixteen colours, the only sequences that the command line uses."""
    out, bold, colour = [], False, None
    for part in re.split(r"(\x1b\[[\d;]*m)", text):
        if not part.startswith("\x1b"):
            style = ("font-weight:bold;" if bold else "") + (f"color:{colour};" if colour else "")
            out.append(f'<span style="{style}">{html.escape(part)}</span>' if style and part else html.escape(part))
            continue
        code = part[2:-1]
        if code in ("", "0"):
            bold, colour = False, None
        elif code == "1":
            bold = True
        elif code == "39":
            colour = None
        elif code.startswith("38;5;"):
            colour = COLOURS.get(code[5:])
        else:
            sys.exit(f"unknown sequence: {part!r}")
    return "".join(out)


def photograph(body, lines, png, work):
    page = work / "page.html"
    page.write_text(
        f"""<meta charset="utf-8"><style>
        body {{ margin: 0; padding: {PADDING_PX}px; background: #22272e; color: #adbac7; }}
        pre {{ margin: 0; font: {FONT_PX}px/{LINE_PX}px "DejaVu Sans Mono", monospace; }}
        b {{ color: #cdd9e5; }} i {{ color: #6cb6ff; font-style: normal; }}
        </style><pre>{body}</pre>"""
    )
    width = round(COLUMNS * FONT_PX * 0.602) + 2 * PADDING_PX
    height = lines * LINE_PX + 2 * PADDING_PX
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("install chromium")
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
        + ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        + [f"--user-data-dir={work / 'profile'}", f"--force-device-scale-factor={SCALE}"]
        + [f"--window-size={width},{height}", f"--screenshot={png}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )


def main():
    binary = Path(sys.argv[1]).resolve()
    default = Path(__file__).resolve().parent.parent / "docs/images/terminal.png"
    png = Path(sys.argv[2] if len(sys.argv) > 2 else default).resolve()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        server = subprocess.Popen(
            [binary, "serve", "--data", work / "data", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            env = os.environ | {"RUNSTONE_URL": server.stdout.readline().strip(), "TERM": "xterm-256color"}
            for stage, text in JOBS.items():
                margin = re.match(r"\n( *)", text).group(1)
                (work / f"{stage}_orders.py").write_text(text.replace(f"\n{margin}", "\n"))
                job = ["run", "--source-system", "shop", "--stage", stage, "--", "python3", f"{stage}_orders.py"]
                ended = subprocess.run([binary, *job], env=env, cwd=work, capture_output=True)
                if (ended.returncode != 0) != (stage == "report"):
                    sys.exit(f"{stage}: {ended.stderr.decode()}")
            body, lines = "", 0
            for command in SHOWN:
                shown = " ".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in command)
                output = on_terminal([binary, *command[1:]], env, work)
                body += f"<i>$</i> <b>{html.escape(shown)}</b>\n{to_html(output)}\n"
                lines += -(-(len(shown) + 2) // COLUMNS) + output.count("\n") + 1
            photograph(body.rstrip("\n"), lines - 1, png, work)
        finally:
            server.terminate()
            server.wait()
    print(f"{png}: {png.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
