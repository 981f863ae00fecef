//! The gateway shard: a placeholder until sessions land, so that the drivers compile.
use crate::ids::{Conn, NodeId};
use crate::limits::Limits;
use crate::ring::Secret;
use crate::shard::{Budget, Edge, Effects, Input, Report, Shard, Slices};
use crate::time::{Mono, Now};
pub struct GatewayConfig {
    pub node: NodeId,
    pub core: u8,
    pub cores: u8,
    pub life: u64,
    pub secret: Secret,
    pub seed: u64,
    pub echo: bool,
}
#[derive(Debug)]
pub struct Gateway;
impl Gateway {
    pub fn new(_c: GatewayConfig, _l: &Limits) -> Self {
        Self
    }
}
impl Shard for Gateway {
    fn handle(&mut self, _now: Now, _input: Input<'_>, _out: &mut Effects) {}
    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }
    fn deadline(&self) -> Option<Mono> {
        None
    }
    fn report(&self, _into: &mut Report) {}
}
impl Edge for Gateway {
    fn outgoing<'a>(&'a self, _conn: Conn, _into: &mut Slices<'a>) {}
}
