"""The MQTT bridge: observations of devices that speak MQTT."""
