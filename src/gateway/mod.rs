//! Clients: sessions, hubs, interest, outboxes. A pure shard.
