//! Between back ends and owners: dispatch and finalise, pure shards.
