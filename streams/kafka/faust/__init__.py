"""Fixes for Faust and aiokafka, which use their private parts."""
