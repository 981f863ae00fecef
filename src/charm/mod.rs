//! The ring manager: who is dead, and who takes the seats. Pure: links bring the beats, the driver writes the ring.
//!
//! - `pulse`: beats that echo each other, and how long somebody has been silent
//! - `evidence`: whether the data plane has lost a node too
//! - `brakes`: what keeps a manager from doing more harm than good
//! - `manager`: one ring manager; all of them are active, and a compare-and-set decides who was first
//! - `level`: what moves slots afterwards until every node has its share
//! - `push`: a newer ring, told to every node
//! - `health`: the other end of the beats, on every node; what it sees of others is the evidence
//! - `gather`: how a node comes to the ring that managers have
//!
//! `reliability.md` 2.3. Nobody's health in Consul, etcd or an agent is ever looked at.

mod brakes;
mod evidence;
mod gather;
pub mod health;
mod level;
pub mod manager;
mod pulse;
mod push;

#[cfg(test)]
mod push_stories;
#[cfg(test)]
mod stories;
