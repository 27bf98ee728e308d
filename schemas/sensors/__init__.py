"""Sensor definitions: measurement, noise, outliers and calibration; the field `kind` selects one of the kinds."""
