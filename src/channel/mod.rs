//! Owners of channels: order, backlog, interest. A pure shard.
