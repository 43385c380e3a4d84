"""One process with threads: the limits and caches of the default set-up are in its memory. More workers need Redis and PostgreSQL."""

import contextlib
import os
import signal
import threading

bind = f"127.0.0.1:{os.environ.get('TNMT_SUPERSET_PORT', '8088')}"
workers = int(os.environ.get("TNMT_SUPERSET_WORKERS", "1"))
worker_class = "gthread"
threads = 8
timeout = 120
graceful_timeout = 10
keepalive = 5
limit_request_field_size = 32768
limit_request_line = 8190
proc_name = "tnmt-superset"
control_socket_disable = True  # its default path is one for all servers of a user, outside the state folder


def post_worker_init(_worker):
    """A process that a statement took to its bound finishes what it has in hand, as far as it can, and another takes its place."""
    import duck_connect

    def spent():
        last = threading.Timer(graceful_timeout + 2, os._exit, [1])  # a thread that hears nothing would keep it for ever
        last.daemon = True
        with contextlib.suppress(RuntimeError):  # a process at its bound of memory may start no thread; the arbiter ends it after `timeout` then
            last.start()
        os.kill(os.getpid(), signal.SIGTERM)

    duck_connect.spent = spent
