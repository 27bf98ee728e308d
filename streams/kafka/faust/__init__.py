"""Corrections of Faust and aiokafka: the only files that touch private parts of theirs."""
