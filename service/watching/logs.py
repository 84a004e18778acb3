"""Log lines as JSON on stderr, one object a line. Set up by the command line only; modules just log."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from datetime import UTC, datetime

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

# What they say below these levels is about themselves, or (python_multipart) about what a client sent: that is a 4xx.
_QUIETER = {"PIL": logging.INFO, "asyncio": logging.INFO, "faiss": logging.WARNING, "python_multipart": logging.ERROR}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, the request's id if there is one, and every field given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(level: str) -> None:
    """Send every logger's lines to stderr as JSON. For the start of a process, nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)  # Pillow's, say, would else be plain lines between the others
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Ours says more. It is switched off again here because in a worker this runs after uvicorn's own set-up.
    logging.getLogger("uvicorn.access").disabled = True
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(max(least, root.level))
