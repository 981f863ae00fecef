//! Who is online. A pure shard.
