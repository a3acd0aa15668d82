//! The sans-I/O leader of one shard (being written).
