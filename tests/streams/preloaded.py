"""What `tests.streams.forked` imports before it forks: native code is loaded then, and shared by all workers."""

import uvloop  # noqa: F401  a worker imports it late

from beliefstream.inference.mixtures import native_forms

native_forms.prepare()
