"""Beliefs and their storage: records, codec, stores, changelog, lineage, fencing and expiry."""
