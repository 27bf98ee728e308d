"""The published tasks of "Distribution Transformers" (arXiv 2502.02463), with exact answers and right baselines."""
