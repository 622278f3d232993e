//! Proposing, voting, withdrawing: who may, when, and what counts (P58 to P60).
use crate::world::*;
use cityid_core::ledger::stored::Outcome;
use cityid_core::record::Status;
use serde_json::json;

#[test]
fn more_than_two_thirds_of_the_members_enact_at_the_last_vote() {
    let mut world = World::new(4);
    let number = world.propose("130100", parameter("max_items", 500));
    assert_eq!(number, 1);
    let record = world.proposal(1);
    let proposal = record.proposal.unwrap();
    assert_eq!((record.status, record.holder.as_deref()), (Status::Allocated, Some("MA.156.130100")));
    assert_eq!((proposal.votes, proposal.until), (vec![city("130100")], 1 + 10_000));
    world.ok(vote("440300", 1), &desk("440300"));
    assert_eq!((world.ledger.parameters().max_items, world.proposal(1).status), (1_000, Status::Allocated), "2 of 4 are too few");
    world.ok(vote("110000", 1), &desk("110000"));
    assert_eq!((world.ledger.parameters().max_items, world.proposal(1).status), (500, Status::Active));
    assert_eq!(world.proposal(1).proposal.unwrap().votes, [city("110000"), city("130100"), city("440300")]);
    let flags: Vec<bool> = world.commits.iter().map(|(_, commit, _)| commit.configuration).collect();
    assert_eq!(flags, [false, false, true], "only the last of them changed anything but the proposal");
    world.refused(vote("330100", 1), &desk("330100"), "closed");
    world.refused(withdraw("130100", 1), &desk("130100"), "closed");
    assert_eq!(world.propose("330100", parameter("max_items", 400)), 2);
}

#[test]
fn exactly_two_thirds_is_not_enough() {
    let mut world = World::new(6);
    let number = world.propose(CITIES[0], parameter("max_items", 500));
    for voter in &CITIES[1..4] {
        world.ok(vote(voter, number), &desk(voter));
    }
    assert_eq!(world.ledger.parameters().max_items, 1_000, "4 of 6");
    world.ok(vote(CITIES[4], number), &desk(CITIES[4]));
    assert_eq!(world.ledger.parameters().max_items, 500, "5 of 6");
}

#[test]
fn only_active_member_cities_propose_vote_and_withdraw_each_with_its_own_key() {
    let mut world = World::new(5);
    let change = parameter("max_items", 500);
    let number = world.propose("110000", change.clone());
    let stranger = key("stranger");
    for operation in [propose("130100", change.clone()), vote("130100", number), withdraw("110000", number)] {
        for signer in [&stranger, &desk("330100"), &key("130100/consensus")] {
            world.refused(operation.clone(), signer, "not_authorised");
        }
    }
    world.refused(propose("990000", change.clone()), &stranger, "not_authorised");
    world.refused(withdraw("130100", number), &desk("130100"), "not_authorised");
    world.refused(vote("110000", number), &desk("110000"), "exists");
    for unknown in [0, number + 1, i64::MAX as u64] {
        world.refused(vote("130100", unknown), &desk("130100"), "unknown_proposal");
        world.refused(withdraw("130100", unknown), &desk("130100"), "unknown_proposal");
    }
    world.decide_by(&CITIES[..4], status("510100", "suspended"));
    for operation in [propose("510100", change.clone()), vote("510100", number)] {
        world.refused(operation, &desk("510100"), "suspended");
    }
    world.ok(withdraw("110000", number), &desk("110000"));
    assert_eq!(world.proposal(number).status, Status::Retired);
    world.refused(vote("130100", number), &desk("130100"), "closed");
    world.refused(withdraw("110000", number), &desk("110000"), "closed");
    world.decide_by(&CITIES[..4], change);
}

#[test]
fn votes_end_with_the_window_that_the_proposal_was_made_in() {
    let mut world = World::with(4, |json| json["parameters"]["proposal_window"] = json!(3));
    let (early, late) = (world.propose("110000", parameter("max_items", 500)), world.propose("110000", parameter("max_items", 600)));
    assert_eq!((world.proposal(early).proposal.unwrap().until, world.proposal(late).proposal.unwrap().until), (4, 5));
    world.pass(1);
    world.ok(vote("130100", early), &desk("130100"));
    assert_eq!(world.height(), 4, "the last height for it");
    world.refused(vote("330100", early), &desk("330100"), "expired_proposal");
    world.refused(vote("330100", late), &desk("330100"), "expired_proposal");
    world.ok(withdraw("110000", late), &desk("110000"));
    assert_eq!(world.ledger.parameters().max_items, 1_000);
}

#[test]
fn votes_of_removed_and_suspended_cities_do_not_count() {
    let mut world = World::new(7);
    let number = world.propose("650100", parameter("max_items", 500));
    world.ok(vote("610100", number), &desk("610100"));
    world.decide_by(&CITIES[..5], remove("650100"));
    world.decide_by(&CITIES[..5], status("610100", "suspended"));
    assert_eq!((world.configuration().members, world.configuration().suspended), (6, 1));
    // Six members, so five votes are needed: those of the removed and of the suspended city are none of them.
    for voter in &CITIES[..4] {
        world.ok(vote(voter, number), &desk(voter));
    }
    assert_eq!(world.proposal(number).proposal.unwrap().votes.len(), 5, "the removed city is off the list");
    assert_eq!(world.ledger.parameters().max_items, 1_000);
    // The suspended city's vote stands, and counts once it is active again.
    world.decide_by(&CITIES[..5], status("610100", "active"));
    world.ok(vote(CITIES[4], number), &desk(CITIES[4]));
    assert_eq!(world.ledger.parameters().max_items, 500);
}

#[test]
fn a_vote_that_cannot_be_enacted_is_refused_and_the_proposal_stays_open() {
    let mut world = World::new(5);
    let first = world.propose("110000", remove("510100"));
    let second = world.propose("130100", committee(&["110000", "130100", "330100", "510100"]));
    for voter in ["330100", "440300"] {
        world.ok(vote(voter, first), &desk(voter));
        world.ok(vote(voter, second), &desk(voter));
    }
    world.ok(vote("130100", first), &desk("130100"));
    assert_eq!(world.configuration().committee.len(), 4);
    // Of four members three have agreed to the second one before anybody votes again: it is enacted by the next vote, which is refused.
    world.refused(vote("110000", second), &desk("110000"), "bad_transition");
    assert_eq!(world.proposal(second).status, Status::Allocated);
    world.ok(withdraw("130100", second), &desk("130100"));
}

#[test]
fn one_block_may_hold_a_whole_decision_and_each_operation_sees_those_before() {
    let mut world = World::new(4);
    let operations = [
        (propose("110000", parameter("max_items", 500)), "110000"),
        (vote("130100", 1), "130100"),
        (vote("130100", 1), "130100"),
        (propose("440300", parameter("max_items", 500)), "440300"),
        (vote("330100", 1), "330100"),
        (vote("440300", 1), "440300"),
        (vote("110000", 2), "110000"),
        (vote("130100", 2), "130100"),
    ];
    let transactions: Vec<Vec<u8>> = operations.into_iter().map(|(operation, by)| world.transaction(operation, &desk(by))).collect();
    let outcomes: Vec<String> = world
        .block(&transactions)
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Rejected(reason, 0) => reason,
            Outcome::Committed(_) => "committed".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    let done = "committed";
    assert_eq!(outcomes, [done, done, "exists", done, done, "closed", done, "unchanged"]);
    assert_eq!((world.ledger.parameters().max_items, world.configuration().proposals), (500, 2));
    assert_eq!(world.proposal(2).status, Status::Allocated);
}

#[test]
fn a_proposal_leaves_nothing_of_its_trial() {
    let mut world = World::new(4);
    let admission = world.admission("310000");
    let before = world.ledger.published().state.len();
    let number = world.propose("110000", admission.clone());
    assert_eq!(world.ledger.published().state.len(), before + 1, "the proposal, and no city, no key");
    let configuration = world.configuration();
    assert_eq!((configuration.members, configuration.proposals), (4, 1));
    // Two proposals of one city may be open; the one that comes first takes its keys.
    let second = world.propose("130100", admission);
    for voter in ["330100", "440300"] {
        world.ok(vote(voter, number), &desk(voter));
    }
    assert_eq!(world.configuration().members, 5);
    for voter in ["110000", "330100"] {
        world.ok(vote(voter, second), &desk(voter));
    }
    world.refused(vote("440300", second), &desk("440300"), "exists");
}
