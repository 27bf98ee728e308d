"""The inference engine of Beliefstream: tensors in, tensors out. It knows no Kafka, no messages and no wall clock."""
