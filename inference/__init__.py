"""The mathematics of Beliefstream: tensors in, tensors out. Knows no Kafka, no message and no wall clock."""
