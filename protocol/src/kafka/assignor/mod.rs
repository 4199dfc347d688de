//! How a group shares out partitions: the consumer protocol's two blobs, and the assignors of a leader.
