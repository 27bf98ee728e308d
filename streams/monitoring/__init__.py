"""What the service says about itself: metrics, log lines, and the throttle for repeated ones."""
