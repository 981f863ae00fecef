//! Who follows what, and when what is published: all of it drawn from the seed before the run.

use std::time::Duration;

use super::arguments::{Config, Layout, Scenario};
use super::doors::Workspace;

/// A run as it is to be.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Names that the server is told, by number.
    pub(super) channels: Vec<String>,
    /// The channels of each connection.
    pub(super) seats: Vec<Vec<u32>>,
    /// How many connections follow each channel.
    pub(super) followers: Vec<u32>,
    pub(super) pace: Pace,
    /// Connections from this number on read slowly.
    pub(super) slow_from: u32,
    /// Connections that come and go beside those, in `mixed`.
    pub(super) visitors: u32,
    /// When all connections drop, in `resume`.
    pub(super) drop_at: Option<Duration>,
}

/// When something is published.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Pace {
    Never,
    /// Open loop: `count` at once, each `interval`.
    Every {
        interval: Duration,
        count: u32,
    },
    /// Closed loop: all but `outstanding` have arrived everywhere.
    Outstanding(u32),
}

/// Channels of one connection, in `capacity`; and, about, in `mixed`.
const HELD_PER_CONNECTION: u32 = 100;
const MIXED_PER_CONNECTION: usize = 200;
/// For one connection that stays, in `mixed`.
const VISITORS_SHARE: f64 = 0.02;

impl Plan {
    /// `run` tells this run's channels from those of others.
    pub(super) fn new(config: &Config, workspace: &Workspace, run: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let (channels, seats) = match &workspace.members {
            Some(members) => (workspace.channels.clone(), members.clone()),
            None => Self::drawn(config, &mut random, run),
        };
        let mut followers = vec![0; channels.len()];
        let conns = seats.len() as u32;
        let slow = if config.scenario == Scenario::Slow {
            ((f64::from(conns) * config.slow).ceil() as u32).min(conns - 1)
        } else {
            0
        };
        // Those who are slow are not waited for.
        for seat in seats[..(conns - slow) as usize].iter().flatten() {
            followers[*seat as usize] += 1;
        }
        let is_mixed = config.scenario == Scenario::Mixed;
        let visitors = if is_mixed { (f64::from(conns) * VISITORS_SHARE).ceil() as u32 } else { 0 };
        let drop_at = (config.scenario == Scenario::Resume).then(|| config.duration / 3);
        let pace = Self::pace(config);
        Self { channels, seats, followers, pace, slow_from: conns - slow, visitors, drop_at }
    }

    fn pace(config: &Config) -> Pace {
        match (config.scenario, config.outstanding, config.rate) {
            (Scenario::Connect | Scenario::Idle | Scenario::Capacity, ..) => Pace::Never,
            (_, Some(outstanding), _) => Pace::Outstanding(outstanding),
            (Scenario::Burst, ..) => {
                Pace::Every { interval: Duration::from_secs(1), count: config.burst }
            }
            (_, None, Some(rate)) => {
                Pace::Every { interval: Duration::from_secs_f64(1.0 / rate), count: 1 }
            }
            (_, None, None) => Pace::Outstanding(1),
        }
    }

    fn drawn(
        config: &Config,
        random: &mut fastrand::Rng,
        run: u32,
    ) -> (Vec<String>, Vec<Vec<u32>>) {
        let conns = match config.scenario {
            Scenario::Capacity => config.channels.div_ceil(HELD_PER_CONNECTION),
            _ => config.connections,
        };
        let mut seats = vec![Vec::new(); conns as usize];
        let count = match config.scenario {
            Scenario::Fanout | Scenario::Burst | Scenario::Slow | Scenario::Resume => {
                seats.fill(vec![0]);
                1
            }
            Scenario::Connect | Scenario::Idle => 0,
            Scenario::Capacity => {
                for channel in 0..config.channels {
                    seats[(channel % conns) as usize].push(channel);
                }
                config.channels
            }
            Scenario::Channels => {
                for channel in 0..config.channels {
                    for conn in members(config, channel, random) {
                        seats[conn as usize].push(channel);
                    }
                }
                config.channels
            }
            Scenario::Mixed => {
                // The k-th channel is drawn in proportion to 1 / k.
                let weights: Vec<f64> = (1..=config.channels).map(|k| 1.0 / f64::from(k)).collect();
                let all: f64 = weights.iter().sum();
                let each = MIXED_PER_CONNECTION.min(config.channels as usize / 2).max(1) as f64;
                for seats in &mut seats {
                    let is_in = |weight: &f64| (weight / all * each).min(0.9);
                    seats.extend(
                        (0..config.channels)
                            .filter(|channel| random.f64() < is_in(&weights[*channel as usize])),
                    );
                }
                config.channels
            }
        };
        let channels = (0..count).map(|channel| format!("load-{run:x}-{channel}")).collect();
        (channels, seats)
    }

    /// The channel of the n-th publication.
    pub(super) fn channel_of(&self, n: u64, layout: Layout, random: &mut fastrand::Rng) -> u32 {
        let count = self.channels.len() as u64;
        match layout {
            Layout::Random => random.u64(..count) as u32,
            Layout::Blocks | Layout::RoundRobin => (n % count) as u32,
        }
    }
}

fn members(config: &Config, channel: u32, random: &mut fastrand::Rng) -> Vec<u32> {
    let (conns, each) = (config.connections, config.subscribers);
    match config.layout {
        Layout::Random => random.choose_multiple(0..conns, each as usize),
        Layout::Blocks => (0..each).map(|k| (channel * each + k) % conns).collect(),
        Layout::RoundRobin => {
            (0..each).map(|k| (channel + k * (conns / each).max(1)) % conns).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::arguments::Dialect;

    fn plan(scenario: Scenario, layout: Layout) -> Plan {
        let config = Config {
            scenario,
            dialect: Dialect::Raw,
            urls: Vec::new(),
            workspace: String::new(),
            token_secret: None,
            tokens: None,
            app: Default::default(),
            connections: 100,
            channels: 40,
            subscribers: 10,
            rate: Some(50.0),
            outstanding: None,
            window: 64,
            burst: 5,
            bytes: 200,
            slow: 0.1,
            duration: Duration::from_secs(9),
            warm: Duration::ZERO,
            reconnect: false,
            seed: 7,
            layout,
            threads: 1,
            server_pid: None,
            json: None,
            html: None,
        };
        Plan::new(&config, &Workspace::default(), 1)
    }

    #[test]
    fn every_layout_gives_each_channel_its_subscribers() {
        for layout in [Layout::Random, Layout::Blocks, Layout::RoundRobin] {
            let plan = plan(Scenario::Channels, layout);
            assert!(plan.followers.iter().all(|count| *count == 10), "{layout:?}");
            for seats in &plan.seats {
                let mut once = seats.clone();
                once.dedup();
                assert_eq!(once.len(), seats.len(), "{layout:?}: nobody is in a channel twice");
            }
        }
        let (one, other) =
            (plan(Scenario::Mixed, Layout::Random), plan(Scenario::Mixed, Layout::Random));
        assert_eq!(one.seats, other.seats, "the seed decides");
        assert!(one.followers[0] > one.followers[39] && one.visitors > 0);
    }

    #[test]
    fn the_slow_are_not_waited_for_and_the_resumed_drop() {
        let slow = plan(Scenario::Slow, Layout::Random);
        assert_eq!((slow.slow_from, &slow.followers[..]), (90, &[90][..]));
        assert_eq!(plan(Scenario::Resume, Layout::Random).drop_at, Some(Duration::from_secs(3)));
        assert_eq!(plan(Scenario::Idle, Layout::Random).pace, Pace::Never);
    }
}
