//! Random proposals, votes and withdrawals against a second, plainer statement of governance: it says for every operation whether it
//! takes effect or why not, and what stands afterwards.
use crate::world::*;
use cityid_core::block::Validator;
use cityid_core::hash::sha256;
use cityid_core::ledger::execute::Output;
use cityid_core::ledger::stored::Outcome;
use cityid_core::record::Status;
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};

const ACTIVE: &str = "active";
const SUSPENDED: &str = "suspended";
const RETIRED: &str = "retired";

#[derive(Clone)]
enum Wish {
    Status(&'static str, &'static str),
    Remove(&'static str),
    Items(u64),
    Merge(&'static str, &'static str),
    Committee(BTreeSet<&'static str>),
}

#[derive(Clone)]
struct Town {
    status: &'static str,
    into: Option<&'static str>,
    manager: &'static str,
}

#[derive(Clone)]
struct Plan {
    by: &'static str,
    wish: Wish,
    agreed: BTreeSet<&'static str>,
    state: Status,
}

/// What the ledger should hold.
#[derive(Clone)]
struct Model {
    towns: BTreeMap<&'static str, Town>,
    committee: BTreeSet<&'static str>,
    items: u64,
    plans: Vec<Plan>,
}

type Verdict = Result<(), &'static str>;

impl Model {
    fn new() -> Model {
        let town = |city: &&'static str| (*city, Town { status: ACTIVE, into: None, manager: city });
        Model { towns: CITIES.iter().map(town).collect(), committee: CITIES.into(), items: 1_000, plans: Vec::new() }
    }

    fn members(&self) -> impl Iterator<Item = &Town> {
        self.towns.values().filter(|town| town.status != RETIRED && town.into.is_none())
    }

    fn is_quorum(&self, votes: usize) -> bool {
        votes * 3 > self.members().count() * 2
    }

    /// Whether a city may speak; `desk` is whose key signed.
    fn may(&self, city: &str, desk: &str) -> Verdict {
        match &self.towns[city] {
            _ if city != desk => Err("not_authorised"),
            town if town.status != ACTIVE => Err("suspended"),
            town if town.into.is_some() => Err("merged"),
            _ => Ok(()),
        }
    }

    fn enact(&mut self, wish: &Wish) -> Verdict {
        let before = self.clone();
        let done = self.apply(wish).and_then(|()| {
            let active = self.members().filter(|town| town.status == ACTIVE).count();
            if self.is_quorum(active) {
                Ok(())
            } else {
                Err("no_quorum_left")
            }
        });
        if done.is_err() {
            *self = before;
        }
        done
    }

    fn apply(&mut self, wish: &Wish) -> Verdict {
        let status = |city: &str| self.towns[city].status;
        match wish {
            Wish::Items(items) if *items == self.items => return Err("unchanged"),
            Wish::Items(items) => self.items = *items,
            Wish::Status(city, wanted) if status(city) == RETIRED || status(city) == *wanted => return Err("bad_transition"),
            Wish::Status(city, wanted) => self.towns.get_mut(city).unwrap().status = wanted,
            Wish::Remove(city) if status(city) == RETIRED => return Err("bad_transition"),
            Wish::Remove(city) if self.committee.contains(city) && self.committee.len() == 4 => return Err("committee_too_small"),
            Wish::Remove(city) => {
                self.towns.get_mut(city).unwrap().status = RETIRED;
                self.committee.remove(city);
            }
            Wish::Committee(cities) => {
                for town in cities.iter().map(|city| &self.towns[city]) {
                    match (town.status, town.into) {
                        (RETIRED, _) => return Err("bad_transition"),
                        (_, Some(_)) => return Err("merged"),
                        (SUSPENDED, _) => return Err("suspended"),
                        _ => {}
                    }
                }
                if *cities == self.committee {
                    return Err("unchanged");
                }
                self.committee.clone_from(cities);
            }
            Wish::Merge(city, into) => {
                if status(city) == RETIRED || status(into) == RETIRED {
                    return Err("bad_transition");
                }
                if status(city) == SUSPENDED || status(into) == SUSPENDED {
                    return Err("suspended");
                }
                if self.towns[into].into.is_some() || city == into || self.towns[city].into == Some(*into) {
                    return Err("bad_transition");
                }
                if self.committee.contains(city) {
                    return Err("in_committee");
                }
                self.towns.get_mut(city).unwrap().into = Some(*into);
                // Whatever leads to the city by way of successors is managed by its heir.
                let names: Vec<&'static str> = self.towns.keys().copied().collect();
                for name in names {
                    let mut at = name;
                    while at != *city && self.towns[at].into.is_some() {
                        at = self.towns[at].into.unwrap();
                    }
                    if at == *city && self.towns[name].status != RETIRED {
                        self.towns.get_mut(name).unwrap().manager = into;
                    }
                }
            }
        }
        Ok(())
    }

    fn propose(&mut self, city: &'static str, desk: &str, wish: Wish) -> Verdict {
        self.may(city, desk)?;
        self.clone().enact(&wish)?;
        self.plans.push(Plan { by: city, wish, agreed: BTreeSet::from([city]), state: Status::Allocated });
        Ok(())
    }

    fn vote(&mut self, city: &'static str, desk: &str, number: usize) -> Verdict {
        self.may(city, desk)?;
        let plan = self.open(number)?;
        if !self.plans[plan].agreed.insert(city) {
            return Err("exists");
        }
        let counts = |city: &&&'static str| self.towns[**city].status == ACTIVE && self.towns[**city].into.is_none();
        let votes = self.plans[plan].agreed.iter().filter(counts).count();
        if self.is_quorum(votes) {
            let wish = self.plans[plan].wish.clone();
            if let Err(reason) = self.enact(&wish) {
                self.plans[plan].agreed.remove(city);
                return Err(reason);
            }
            self.plans[plan].state = Status::Active;
        }
        Ok(())
    }

    fn withdraw(&mut self, city: &str, desk: &str, number: usize) -> Verdict {
        self.may(city, desk)?;
        let plan = self.open(number)?;
        if self.plans[plan].by != city {
            return Err("not_authorised");
        }
        self.plans[plan].state = Status::Retired;
        Ok(())
    }

    fn open(&self, number: usize) -> Result<usize, &'static str> {
        match number.checked_sub(1).and_then(|place| self.plans.get(place)) {
            None => Err("unknown_proposal"),
            Some(plan) if plan.state != Status::Allocated => Err("closed"),
            Some(_) => Ok(number - 1),
        }
    }

    fn check(&self, world: &World) {
        let configuration = world.configuration();
        assert_eq!(configuration.members, self.members().count() as u64);
        assert_eq!(configuration.suspended, self.members().filter(|town| town.status == SUSPENDED).count() as u64);
        let set: Vec<&str> = self.committee.iter().copied().collect();
        let validators = world.ledger.validators();
        let deciding: Vec<String> = validators.members().iter().map(|Validator { city, .. }| city.as_str().to_owned()).collect();
        assert_eq!(deciding, set);
        assert_eq!(world.ledger.parameters().max_items, self.items);
        for (name, town) in &self.towns {
            let record = world.city(name);
            assert_eq!(record.status.name(), town.status, "{name}");
            assert_eq!(record.administered_by.unwrap_or(city(name)), city(town.manager), "{name}");
            assert_eq!(record.succession.and_then(|names| names.successor), town.into.map(city), "{name}");
        }
        for (index, plan) in self.plans.iter().enumerate() {
            assert_eq!(world.proposal(index as u64 + 1).status, plan.state);
        }
    }
}

fn change(wish: &Wish) -> Value {
    match wish {
        Wish::Status(city, wanted) => status(city, wanted),
        Wish::Remove(city) => remove(city),
        Wish::Items(items) => parameter("max_items", *items),
        Wish::Merge(city, into) => merge(city, into),
        Wish::Committee(cities) => json!({"change": "set_committee", "cities": cities}),
    }
}

fn wish(draw: &[u8; 32]) -> Wish {
    let city = |place: usize| CITIES[usize::from(draw[place]) % CITIES.len()];
    match draw[8] % 9 {
        0 => Wish::Status(city(9), SUSPENDED),
        1 | 2 => Wish::Status(city(9), ACTIVE),
        3 => Wish::Remove(city(9)),
        4 => Wish::Items(500 + u64::from(draw[9]) % 3),
        5 | 6 => Wish::Merge(city(9), city(10)),
        _ => Wish::Committee((0..4 + usize::from(draw[11]) % 3).map(|step| CITIES[(usize::from(draw[9]) + step) % CITIES.len()]).collect()),
    }
}

#[test]
fn random_governance_goes_as_the_plain_statement_says() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for run in 0..12u8 {
        let (mut world, mut model) = (World::new(CITIES.len()), Model::new());
        let mut draw = sha256(&[run]);
        for _ in 0..160 {
            draw = sha256(&draw);
            let by = CITIES[usize::from(draw[0]) % CITIES.len()];
            let at = if draw[1].is_multiple_of(16) { CITIES[usize::from(draw[2]) % CITIES.len()] } else { by };
            let number = (model.plans.len() + 1).saturating_sub(usize::from(draw[3]) % 4);
            let (operation, expected) = match draw[4] % 8 {
                0 => (propose(by, change(&wish(&draw))), model.propose(by, at, wish(&draw))),
                1 => (withdraw(by, number as u64), model.withdraw(by, at, number)),
                _ => (vote(by, number as u64), model.vote(by, at, number)),
            };
            let before = world.root();
            let outcome = world.run(operation.clone(), &desk(at));
            match (&outcome, expected) {
                (Outcome::Committed(outputs), Ok(())) => {
                    if draw[4].is_multiple_of(8) {
                        assert_eq!(outputs, &[Output::Proposal(model.plans.len() as u64)]);
                    }
                }
                (Outcome::Rejected(reason, 0), Err(expected)) => {
                    assert_eq!(reason, expected, "{operation}");
                    assert_eq!(world.root(), before);
                }
                _ => panic!("{operation} by {at}: {outcome:?}, expected {expected:?}"),
            }
            *seen.entry(expected.err().unwrap_or("done").to_owned()).or_default() += 1;
            model.check(&world);
        }
        *seen.entry("enacted".to_owned()).or_default() += model.plans.iter().filter(|plan| plan.state == Status::Active).count();
    }
    // The draws reach what this is about.
    for (reason, least) in [("done", 300), ("enacted", 20), ("merged", 5), ("suspended", 5), ("no_quorum_left", 1), ("bad_transition", 3)] {
        assert!(seen.get(reason).is_some_and(|count| *count >= least), "{reason}: {seen:?}");
    }
}
