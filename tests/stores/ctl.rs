//! `campanile ctl ring` and `region`, as an operator runs them.

use std::process::{Command, Output};

use campanile::ring::store::file::RingFile;
use campanile::ring::store::{Store, Stored};
use campanile::ring::view::{Offered, View};
use serde_json::{Value, json};

use super::double::Double;

/// A store for a test, and the command that speaks to it.
struct Operator {
    runtime: tokio::runtime::Runtime,
    double: Double,
}

impl Operator {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let double = runtime.block_on(Double::start());
        Self { runtime, double }
    }

    fn run(&self, words: &str) -> Output {
        // Most words are about the ring.
        let about = if words.starts_with("region ") { &[][..] } else { &["ring"] };
        let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
        command.args(["ctl", "--store", &self.double.address, "--cell", "west"]).args(about);
        command.args(words.split(' ')).output().expect("the binary runs")
    }

    fn json(&self, words: &str) -> Value {
        let output = self.run(&format!("{words} --json"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {errors}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn stored(&self) -> Stored {
        let store = Store::new(&self.double.address, "west").expect("a store");
        self.runtime.block_on(store.read()).expect("an answer").expect("a ring")
    }

    fn refused(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words} is refused");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn a_ring_is_made_grown_and_shrunk_and_says_before_what_moves() {
    let operator = Operator::new();
    assert!(operator.refused("show").contains("no ring yet"));
    let made =
        operator.json("create a=10.0.0.1:7400,cores=4,zone=x b=10.0.0.2:7400,cores=4,zone=y");
    assert_eq!((&made["ring_epoch"], &made["seats"]), (&1.into(), &16.into()));
    assert!(operator.refused("create c=10.0.0.3:7400,cores=4").contains("has a ring already"));
    assert_eq!(operator.json("plan")["writes"], 0);

    let planned = operator.json("add c=10.0.0.3:7400,cores=4");
    assert_eq!(planned["ring_epoch"], 2);
    let slots = planned["channel_slots"].as_u64().expect("a number");
    assert!((21_836..=21_853).contains(&slots), "a third: {slots}");
    assert!(planned["between"].as_array().expect("a list").iter().all(|one| one["to"] == "c"));
    assert_eq!(operator.json("plan"), planned, "planning changes nothing");

    assert_eq!(operator.json("carry-out --pause 0 --writes 3")["channel_slots"], 768);
    let rest = operator.json("carry-out --pause 0");
    assert_eq!(rest["channel_slots"].as_u64(), Some(slots - 768));
    assert_eq!(operator.json("plan")["writes"], 0);

    let replaced = operator.json("replace a --by c");
    assert_eq!(replaced["ring_epoch"].as_u64(), rest["ring_epoch"].as_u64().map(|epoch| epoch + 1));
    let shown = operator.json("show");
    let names: Vec<&Value> =
        shown["nodes"].as_array().expect("a list").iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["a", "b", "c"], "who was replaced stays known");
    assert_eq!(
        (&shown["nodes"][0]["replaced"], &shown["nodes"][0]["seats"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(shown["nodes"][2]["seats"], 16);
    assert!(operator.refused("add a").contains("is not back yet"));
    assert_eq!(operator.json("freeze")["frozen"], true);
    assert!(operator.refused("freeze").contains("is frozen"));
    assert_eq!(operator.json("unfreeze")["frozen"], false);

    operator.json("drain c --pause 0");
    let shown = operator.json("show");
    assert_eq!(shown["nodes"][1]["channel_slots"], 65_536);
    assert_eq!(shown["retired_seats"], 16);
    let text = operator.run("show");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("cell west, ring epoch") && text.contains("10.0.0.2:7400"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence_and_changes_nothing() {
    let operator = Operator::new();
    operator.json("create a=10.0.0.1:7400,cores=4 b=10.0.0.2:7400,cores=2,weight=50");
    let before = operator.json("show");
    for (words, why) in [
        ("add a=10.0.0.9:7400,cores=4", "node a has seats already"),
        ("add z", "no node z stands by"),
        ("add c=10.0.0.9,cores=4", "not NAME=HOST:PORT"),
        ("add c=10.0.0.9:7400", "cores=1"),
        ("add c=10.0.0.9:7400,cores=4,rack=1", "not cores, weight, zone or roles"),
        ("remove z", "no node z"),
        ("replace z", "no node z"),
        ("replace a --by a", "nobody is left"),
        ("move channels 5 99", "nobody holds seat 99"),
        ("move channels 65536 1", "65536"),
    ] {
        let said = operator.refused(words);
        assert!(said.contains(why), "{words}: {said}");
    }
    operator.json("weigh a 0");
    assert!(operator.refused("weigh b 0").contains("nobody carries anything"));
    assert_eq!(operator.json("show")["nodes"][1], before["nodes"][1]);
    let gone = Command::new(env!("CARGO_BIN_EXE_campanile"))
        .args(["ctl", "--store", "consul://127.0.0.1:9", "ring", "show"])
        .output()
        .expect("the binary runs");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("the ring store is not there"));
}

#[test]
fn channel_servers_and_presence_servers_are_told_apart() {
    let operator = Operator::new();
    let (cs, ps) =
        ("a=10.0.0.1:7400,cores=4,roles=channel", "b=10.0.0.2:7400,cores=4,roles=presence");
    for (words, why) in [
        (format!("create {cs}"), "a ring needs a node that carries users"),
        (format!("create {ps}"), "a ring needs a node that carries channels"),
        (format!("create {cs},roles=webapp {ps}"), "not channel, presence or channel+presence"),
    ] {
        let said = operator.refused(&words);
        assert!(said.contains(why), "{words}: {said}");
    }
    let made = operator.json(&format!("create {cs} {ps}"));
    let of = |shown: &Value, nth: usize| {
        let node = &shown["nodes"][nth];
        (node["roles"].clone(), node["channel_slots"].clone(), node["user_slots"].clone())
    };
    assert_eq!(of(&made, 0), (json!("channel"), json!(65_536), json!(0)));
    assert_eq!(of(&made, 1), (json!("presence"), json!(0), json!(65_536)));
    for (words, why) in [
        ("remove a", "without a nobody carries channels"),
        ("drain b", "without b nobody carries users"),
        ("replace a", "nobody who may take the seats of a carries channels"),
        ("move users 5 0", "the node of seat 0 carries no users"),
        ("add c,roles=channel", "roles: not weight or zone"),
    ] {
        let said = operator.refused(words);
        assert!(said.contains(why), "{words}: {said}");
    }
    let planned = operator.json("add c=10.0.0.3:7400,cores=4,roles=presence+channel");
    assert_eq!(
        (&planned["channel_slots"], &planned["user_slots"]),
        (&json!(32_768), &json!(32_768))
    );
    operator.json("drain a --pause 0");
    let shown = operator.json("show");
    assert_eq!(of(&shown, 1), (json!("channel+presence"), json!(65_536), json!(32_768)));
    let text = String::from_utf8(operator.run("show").stdout).expect("text");
    assert!(text.contains(" presence ") && text.contains(" channel+presence "), "{text}");
}

#[test]
fn a_region_is_drained_and_restored_and_moves_nothing_of_the_ring() {
    let operator = Operator::new();
    assert!(operator.refused("region drain eu").contains("no ring yet"));
    operator.json("create a=10.0.0.1:7400,cores=4");
    let before = operator.json("show");
    assert_eq!(operator.json("region list")["draining"], json!([]));
    let drained = operator.json("region drain eu --seconds 60");
    assert_eq!(drained["draining"], json!([{ "region": "eu", "pace": { "seconds": 60 } }]));
    operator.json("region drain eu --per-second 500");
    operator.json("region drain us");
    let listed = operator.json("region list");
    let both = json!([{ "region": "eu", "pace": { "per_second": 500 } }, { "region": "us", "pace": "usual" }]);
    assert_eq!((&listed["draining"], &listed["ring_epoch"]), (&both, &json!(4)));
    let text = String::from_utf8(operator.run("region list").stdout).expect("text");
    assert!(
        text.contains("2 regions drain") && text.contains("500 connections of a core"),
        "{text}"
    );
    for (words, why) in [
        ("region drain eu --per-second 500", "drains already"),
        ("region drain e\u{fc}", "no name of a region"),
        ("region drain asia --seconds 0", "1 to 86400 seconds"),
        ("region drain asia --per-second 2000000", "1 to 1048576 connections"),
        ("region drain asia --seconds 1 --per-second 1", "cannot be used with"),
        ("region restore asia", "does not drain"),
    ] {
        let said = operator.refused(words);
        assert!(said.contains(why), "{words}: {said}");
    }
    operator.json("region restore us");
    assert_eq!(operator.json("region restore eu")["draining"], json!([]));
    let after = operator.json("show");
    assert_eq!((&after["nodes"], &after["ring_epoch"]), (&before["nodes"], &json!(6)));
}

#[test]
fn a_store_that_went_back_is_given_the_newest_ring_that_nodes_know() {
    let operator = Operator::new();
    let nothing = operator.double.snapshot();
    let home = tempfile::tempdir().expect("a directory");
    let file = RingFile::new(home.path(), "west", "a");
    let path = file.path().to_str().expect("text").to_string();
    assert!(operator.refused(&format!("restore {path}")).contains("no such file"));
    operator.json("create a=10.0.0.1:7400,cores=4 b=10.0.0.2:7400,cores=4");
    let old = operator.double.snapshot();
    operator.json("replace a --by b");
    operator.json("move users 7 3");
    let before = operator.json("show");
    let newest = operator.stored().cell;
    file.save(&newest).expect("saved");
    let said = operator.refused(&format!("restore {path}"));
    assert!(said.contains("did not go back"), "{said}");

    // A backup is put in place, and somebody writes as if nothing were.
    operator.double.restore(old);
    operator.json("weigh b 50");
    let back = operator.json(&format!("restore {path}"));
    assert_eq!((&back["ring_epoch"], &back["nodes"]), (&json!(4), &before["nodes"]));
    let stored = operator.stored();
    assert_eq!(View::of(&newest).offer(&stored.cell), Offered::Newer);
    assert_eq!(stored.cell.users.seats, newest.users.seats, "the table goes with it");
    assert!(operator.refused(&format!("restore {path}")).contains("did not go back"));

    // A part is lost, and then everything.
    operator.double.forget("rt/west/ring/users");
    assert!(operator.refused("show").contains("has no users"));
    operator.json(&format!("restore {path}"));
    assert_eq!(operator.stored().cell.users, newest.users);
    operator.double.restore(nothing);
    assert!(operator.refused("show").contains("no ring yet"));
    operator.json(&format!("restore {path}"));
    assert_eq!(operator.stored().cell.channels, newest.channels);

    let whole = std::fs::read(&path).expect("there");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert!(operator.refused(&format!("restore {path}")).contains(&path), "it says which file");
}
