"""What `tests.streams.forked` imports before it forks: native code is loaded then, and shared by all workers."""

import torch
import uvloop  # noqa: F401  a worker imports it late

from beliefstream.inference import native_code

torch.set_num_threads(1)  # a process with threads must not fork; each worker sets its own number
native_code.prepare()
