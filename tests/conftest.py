"""What all tests share."""

import signal

pytest_plugins = ["tests.services"]

# A run in the background inherits an ignored SIGINT, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
