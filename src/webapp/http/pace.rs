//! How often something may happen: so many a second, and a burst.

use std::time::{Duration, Instant};

/// A bucket that fills by the clock.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (f64::from(per_second.max(1)), f64::from(burst.max(1)));
        Self { per_second, burst, left: burst, at: Instant::now() }
    }

    /// Takes one, or says how long to wait for it.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.burst);
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_it_goes_on_at_its_pace() {
        let mut pace = Pace::new(2, 3);
        let start = pace.at;
        for _ in 0..3 {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(Duration::from_millis(500)));
        assert_eq!(pace.take(start + Duration::from_millis(500)), Ok(()));
        assert!(pace.take(start + Duration::from_millis(600)).is_err());
        for _ in 0..3 {
            assert_eq!(pace.take(start + Duration::from_secs(60)), Ok(()));
        }
        assert!(pace.take(start + Duration::from_secs(60)).is_err());
    }
}
