//! Faults of the database: who is told what, and that the others go on.

use super::*;

#[tokio::test]
async fn one_poisoned_change_fails_alone() {
    let home = Home::new().await;
    let mut stage = Stage::at(&home.storage, &Limits::DEFAULT).await;
    home.meddle(
        "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.payload LIKE '%poison%' \
         BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
        "CREATE FUNCTION poison() RETURNS TRIGGER AS $$ BEGIN RAISE EXCEPTION 'poisoned'; END $$ LANGUAGE plpgsql; \
         CREATE TRIGGER poison BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.payload LIKE '%poison%') EXECUTE FUNCTION poison()",
    )
    .await;
    let posts: Vec<_> = ["one", "poison", "two", "three"]
        .into_iter()
        .map(|text| {
            let post = stage.post("alice", "general", text, None);
            let database = stage.database.clone();
            tokio::spawn(async move { database.change(Change::Post(post)).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for post in posts {
        outcomes.push(post.await.expect("no panic").map(|_| ()));
    }
    assert_eq!(outcomes, [Ok(()), Err(Refused::INTERNAL), Ok(()), Ok(())]);
    let texts: Vec<_> =
        stage.events(&stage.general()).await.iter().map(|event| event["text"].clone()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    let mut told = Vec::new();
    while let Ok(mail) = stage.mail.try_recv() {
        if let Ok(Message::Committed { offset, .. }) = Message::decode(&mail.message) {
            told.push(offset);
        }
    }
    assert_eq!(told, [1, 2, 3], "what was undone was never told");
    stage.posted("alice", "general", "four").await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_shards_ask_waits_for_its_turn() {
    let limits = Limits { commits_max: 2, ..Limits::DEFAULT };
    let stage = Stage::limited(&limits).await;
    let posts = async |count: usize| {
        let posts: Vec<_> = (0..count)
            .map(|_| {
                let post = stage.post("alice", "general", "x", None);
                let database = stage.database.clone();
                tokio::spawn(async move { database.change(Change::Post(post)).await })
            })
            .collect();
        let mut refused = 0;
        for post in posts {
            match post.await.expect("no panic") {
                Ok(_) => {}
                Err(Refused::BUSY) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        refused
    };
    let redeem = Message::Redeem { ask: Ask(1), ticket: "none" };
    let (refused, answer) = tokio::join!(posts(50), stage.ask(&redeem));
    assert!(refused > 0, "two places for fifty");
    assert_eq!(Message::decode(&answer[0]), Ok(Message::Refused { ask: Ask(1), retry: false }));
    let mut report = Report::default();
    stage.database.report(&mut report);
    let shed = report.gauges.iter().find(|(name, _)| *name == "database_shed_total");
    assert_eq!(shed, Some(&("database_shed_total", refused as f64)));
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_all_the_same() {
    let stage = Stage::new().await;
    stage.database.close().await;
    let answers = [
        (
            Message::Tip { ask: Ask(1), name: "C1" },
            Message::RangeEnd { ask: Ask(1), ok: false, upto: 0 },
        ),
        (
            Message::Range { ask: Ask(2), name: "C1", from: 1, to: 2, bytes_max: 9 },
            Message::RangeEnd { ask: Ask(2), ok: false, upto: 0 },
        ),
        (
            Message::OutboxRead { ask: Ask(3), after: 7, count_max: 9 },
            Message::OutboxEnd { ask: Ask(3), last: 7, more: false },
        ),
        (
            Message::Redeem { ask: Ask(4), ticket: "t" },
            Message::Refused { ask: Ask(4), retry: true },
        ),
        (
            Message::Renew { ask: Ask(5), user: "U1", token: 1, flags: 0 },
            Message::Refused { ask: Ask(5), retry: true },
        ),
    ];
    for (question, expected) in answers {
        let answer = stage.ask(&question).await;
        assert_eq!(answer.len(), 1, "{}", question.name());
        assert_eq!(Message::decode(&answer[0]), Ok(expected));
    }
}
