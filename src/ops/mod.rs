//! Metrics and health.
//!
//! - `metrics`: Prometheus's text, from samples

pub mod metrics;
