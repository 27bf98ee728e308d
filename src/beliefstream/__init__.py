"""Beliefstream: streaming sensor fusion over Kafka.

Everything that a device, a consumer of posteriors or a definition needs is here and works in the base install:
messages, definitions of sensors and models, and clients. `fuse`, which needs no Kafka, needs `beliefstream[worker]`.
Names are imported when they are first used, so that `import beliefstream` is quick; `__init__.pyi` lists them.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
