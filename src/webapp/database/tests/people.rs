//! Who there is, who is where, and how far they have read.

use serde_json::json;

use super::*;

#[tokio::test]
async fn somebody_new_is_there_at_once_with_everything_that_belongs_to_it() {
    let mut stage = Stage::new().await;
    let user = stage.new_user("dave").await.expect("a user");
    assert_eq!((user.real_name.as_str(), user.is_bot), ("Dave", false));
    assert_eq!(stage.database.user(&user.id).as_ref(), Some(&user));
    assert_eq!(stage.database.user_named("dave").as_ref(), Some(&user));
    assert_eq!(stage.database.users().last(), Some(&user));
    assert_eq!(stage.tip(&user.id).await, 0, "an own channel");

    let (general, team) = (stage.general(), stage.database.team().id.clone());
    let there = stage.events(&general).await;
    assert_eq!(
        (&there[0]["type"], &there[0]["user"]),
        (&json!("member_joined_channel"), &json!(user.id))
    );
    let told = stage.events(&team).await;
    assert_eq!((&told[0]["type"], &told[0]["user"]["id"]), (&json!("team_join"), &json!(user.id)));
    assert_eq!(told[0]["user"]["profile"]["display_name"], "dave");
    assert!(told[0]["event_ts"].is_string());
    let mut names = Vec::new();
    while let Ok(mail) = stage.mail.try_recv() {
        if let Ok(Message::Committed { name, .. }) = Message::decode(&mail.message) {
            names.push(name.to_string());
        }
    }
    assert_eq!(names, [general.clone(), team]);
    let general = stage.database.conversation(&user.id, &general).await.expect("a member");
    assert_eq!((&general["is_member"], &general["num_members"]), (&json!(true), &json!(5)));
    let post = stage.post("dave", "general", "hello", None);
    assert!(stage.database.change(Change::Post(post)).await.is_ok());
}

#[tokio::test]
async fn names_of_users_are_checked_and_taken_once() {
    let stage = Stage::new().await;
    for (name, reason) in [
        ("", "invalid_name_required"),
        ("alice", "name_taken"),
        ("Dave", "invalid_name_specials"),
        ("da ve", "invalid_name_specials"),
        ("...", "invalid_name_punctuation"),
        (&"x".repeat(81), "invalid_name_maxlength"),
    ] {
        assert_eq!(stage.new_user(name).await, Err(Refused(reason)), "{name:?}");
    }
    let (one, two) = tokio::join!(stage.new_user("dave"), stage.new_user("dave"));
    assert!(one.is_ok());
    assert_eq!(two, Err(Refused("name_taken")));
    assert_eq!(stage.database.users().len(), 5);
}

#[tokio::test]
async fn there_is_room_for_so_many_users() {
    let limits = Limits { users_max: 5, ..Limits::DEFAULT };
    let stage = Stage::limited(&limits).await;
    assert!(stage.new_user("dave").await.is_ok());
    assert_eq!(stage.new_user("eve").await, Err(Refused("user_limit_reached")));
}

#[tokio::test]
async fn pages_of_users_fit_together_while_new_ones_come() {
    let stage = Stage::new().await;
    let (mut seen, mut after) = (Vec::new(), 0);
    for nth in 0.. {
        let (users, next) = stage.database.users_part(Part { after, limit: 2 });
        seen.extend(users.iter().map(|user| user.name.clone()));
        if nth < 2 {
            stage.new_user(&format!("new{nth}")).await.expect("a user");
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, ["alice", "bob", "carol", "bot", "new0", "new1"]);
    let beyond = stage.database.users_part(Part { after: i64::MAX, limit: 2 });
    assert_eq!(beyond, (Vec::new(), None));
}

#[tokio::test]
async fn coming_is_told_to_the_user_and_going_to_the_conversation() {
    let stage = Stage::new().await;
    let bob = stage.id("bob");
    let id = stage.created("alice", "tower", false).await;
    let join = Change::Join { user: bob.clone(), channel: id.clone() };
    let fresh = Outcome::Conversation { id: id.clone(), fresh: true };
    assert_eq!(stage.database.change(join).await, Ok(fresh));
    let leave = Change::Leave { user: bob.clone(), channel: id.clone() };
    assert_eq!(stage.database.change(leave).await, Ok(Outcome::Done));
    let range = async |name: &str| {
        stage.ask(&Message::Range { ask: Ask(1), name, from: 1, to: 9, bytes_max: 1 << 20 }).await
    };
    let own = range(&bob).await;
    let Ok(Message::RangeEvent { member: Some(joined), .. }) = Message::decode(&own[0]) else {
        panic!("told to bob")
    };
    assert_eq!(joined.what, Membership::Joined);
    assert_eq!((joined.user, joined.channel, joined.offset), (bob.as_str(), id.as_str(), 2));
    let there = range(&id).await;
    let Ok(Message::RangeEvent { member: Some(left), offset: 3, .. }) = Message::decode(&there[2])
    else {
        panic!("told to the conversation")
    };
    assert_eq!((left.what, left.user, left.offset), (Membership::Left, bob.as_str(), 3));
    let tower = stage.database.conversation(&bob, &id).await.expect("public");
    assert_eq!((&tower["num_members"], &tower["is_member"]), (&json!(1), &json!(false)));
    assert!(tower.get("last_read").is_none() && tower.get("unread_count").is_none());
}

#[tokio::test]
async fn whoever_makes_a_channel_is_in_it_and_told_so() {
    let stage = Stage::new().await;
    for (name, is_private) in [("open", false), ("closed", true)] {
        let id = stage.created("alice", name, is_private).await;
        let own = stage.events(&stage.id("alice")).await.pop().expect("told");
        assert_eq!((&own["type"], &own["channel"]["id"]), (&json!("channel_joined"), &json!(id)));
        assert_eq!(own["channel"]["is_member"], true);
    }
    let team = stage.events(&stage.database.team().id).await;
    assert_eq!(team.len(), 1, "what is private is not told to all");
    assert_eq!(team[0]["channel"]["name"], "open");
}

#[tokio::test]
async fn a_mark_is_told_to_its_user_by_the_kind_of_the_conversation() {
    let stage = Stage::new().await;
    let (alice, bob, carol) = (stage.id("alice"), stage.id("bob"), stage.id("carol"));
    let open = async |others: &[&String]| {
        let others = others.iter().map(ToString::to_string).collect();
        let open = Change::Open { user: alice.clone(), others, may_make: true };
        match stage.database.change(open).await {
            Ok(Outcome::Conversation { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    };
    let channels = [
        (stage.general(), "channel_marked"),
        (stage.created("alice", "closed", true).await, "group_marked"),
        (open(&[&bob]).await, "im_marked"),
        (open(&[&bob, &carol]).await, "group_marked"),
    ];
    for (channel, kind) in channels {
        let (one, _) = stage.posted("alice", &channel, "own").await;
        let mark = |ts| Change::Mark { user: alice.clone(), channel: channel.clone(), ts };
        if kind != "channel_marked" && kind != "im_marked" {
            assert_eq!(stage.database.change(mark(one)).await, Ok(Outcome::Done));
        } else {
            stage.posted("bob", &channel, "unread").await;
            stage.posted("bob", &channel, "unread").await;
            assert_eq!(stage.database.change(mark(one)).await, Ok(Outcome::Done));
            let seen = stage.database.conversation(&alice, &channel).await.expect("seen");
            assert_eq!(
                (&seen["unread_count"], &seen["last_read"]),
                (&json!(2), &json!(ts_of(one)))
            );
            assert_eq!(seen["latest"]["text"], "unread");
        }
        assert_eq!(stage.database.change(mark(one)).await, Ok(Outcome::Already));
        let told = stage.events(&alice).await.pop().expect("told");
        assert_eq!((&told["type"], &told["channel"]), (&json!(kind), &json!(channel)));
        assert_eq!(told["ts"], ts_of(one));
    }
}

#[tokio::test]
async fn people_have_one_conversation_with_each_other() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.id("alice"), stage.id("bob"));
    let open = |user: &str, other: &str, may_make| Change::Open {
        user: user.into(),
        others: vec![other.into()],
        may_make,
    };
    let none = stage.database.change(open(&alice, &bob, false)).await;
    assert_eq!(none, Err(Refused("channel_not_found")));
    let Ok(Outcome::Conversation { id, fresh: true }) =
        stage.database.change(open(&alice, &bob, true)).await
    else {
        panic!("made")
    };
    let same = Ok(Outcome::Conversation { id: id.clone(), fresh: false });
    assert_eq!(stage.database.change(open(&bob, &alice, false)).await, same);
    assert!(id.starts_with('D'));
    let nobody = stage.database.change(open(&alice, "U0NOBODY", true)).await;
    assert_eq!(nobody, Err(Refused("user_not_found")));
    let told = stage.events(&bob).await.pop().expect("told");
    assert_eq!((&told["type"], &told["channel"]["user"]), (&json!("im_created"), &json!(alice)));
    let leave = Change::Leave { user: bob, channel: id };
    let refused = Err(Refused("method_not_supported_for_channel_type"));
    assert_eq!(stage.database.change(leave).await, refused);
}
