//! The only folder that lives on glommio and io_uring: the drivers of the shards.
