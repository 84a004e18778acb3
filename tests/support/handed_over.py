"""What stands for `threadmatch` and `python` in a folder of the tests: hands its words, files and folder over.

`tests.support.commands` starts it with the standard library alone, so it takes a fiftieth of a second.
"""

import json
import os
import socket
import sys


def main() -> None:
    """Connect to the socket that the first argument names; end as the command that is run there."""
    asked = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109 - pathlib is slow
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(sys.argv[1])
        socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(asked)
        ended = server.recv(16)
    sys.exit(int(ended) if ended else "the tests ended before the command")


if __name__ == "__main__":
    main()
