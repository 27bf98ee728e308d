"""A belief and where it is kept: records, their bytes, stores, changelog, fencing and expiry."""
