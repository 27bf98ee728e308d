"""Programs that run until they are stopped: worker, broker, gateway, bridge, live page, watch, and the demo."""
