"""Bags of ROS 2 (MCAP): their messages as observations, and posteriors as MCAP."""
