"""Runs a command on a terminal of its own and says in JSON what it printed and how it ended.

usage: terminal.py ROWS COLUMNS KEYS-AFTER KEYS COMMAND…
KEYS are typed once KEYS-AFTER has been printed; without KEYS nothing is typed.
"""

import fcntl
import json
import os
import pty
import struct
import sys
import termios

rows, columns, after, keys, *command = sys.argv[1:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))
    os.execvp(command[0], command)

output = b""
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        break
    if not part:
        break
    output += part
    if keys and after.encode() in output:
        os.write(terminal, keys.encode())
        keys = ""
_, status = os.waitpid(child, 0)
print(json.dumps({"output": output.decode(), "code": os.waitstatus_to_exitcode(status)}))
