//! Which shards a process should lead: pure, from what every process sees in the store. Shards are
//! spread so that any two processes differ by one at most, with as few hand-overs as that takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::core::{
    store::{Member, ShardRow},
    types::ShardId,
};

/// What to begin and what to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Try to take these over.
    pub lead: Vec<ShardId>,
    /// Hand these over.
    pub drain: Vec<ShardId>,
}

/// What a process sees.
pub struct View<'a> {
    /// This process.
    pub me: &'a str,
    /// Every process seen lately, this one included.
    pub members: &'a [Member],
    /// Every shard.
    pub rows: &'a [ShardRow],
    /// Shards that this process leads or is trying to lead.
    pub mine: &'a BTreeSet<ShardId>,
    /// Shards that this process should not try now.
    pub avoid: &'a BTreeSet<ShardId>,
    /// Free shards that nobody took for too long: anybody should.
    pub forsaken: &'a BTreeSet<ShardId>,
}

/// When each lease would end, as it was seen last: a lease that ended sooner was given up, one that
/// ran out belonged to a process that is dead, stopped or cut off.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<ShardId, Instant>);

impl Leases {
    /// Takes in what is seen now; processes whose leases ran out.
    pub fn gone(&mut self, now: Instant, rows: &[ShardRow]) -> BTreeSet<String> {
        let mut gone = BTreeSet::new();
        for row in rows {
            if !row.lease_left.is_zero() {
                self.0.insert(row.shard, now + row.lease_left);
            } else if self.0.get(&row.shard).is_some_and(|end| *end <= now) {
                gone.insert(row.leader.clone());
            } else {
                self.0.remove(&row.shard);
            }
        }
        gone
    }
}

/// Plans for one process. All processes that see the same come to plans that fit together.
pub fn plan(view: &View<'_>) -> Plan {
    let mut names: Vec<&str> = view
        .members
        .iter()
        .filter(|member| !member.draining)
        .map(|member| member.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let Ok(rank) = names.binary_search(&view.me) else {
        return Plan {
            lead: Vec::new(),
            drain: view.mine.iter().copied().collect(),
        };
    };
    let (shards, members) = (unpaused(view).count(), names.len());
    let (floor, ceiling) = (shards / members, shards.div_ceil(members));

    let mut counts: BTreeMap<&str, usize> = names.iter().map(|name| (*name, 0)).collect();
    for row in view.rows.iter().filter(|row| !row.lease_left.is_zero()) {
        if let Some(count) = counts.get_mut(row.leader.as_str()) {
            *count += 1;
        }
    }
    counts.insert(view.me, view.mine.len());

    let mut drain = to_drain(view, &counts, floor, ceiling);
    let paused = view.rows.iter().filter(|row| row.paused_by.is_some());
    let paused = paused.map(|row| row.shard);
    drain.extend(paused.filter(|shard| view.mine.contains(shard)));
    drain.sort_unstable();
    drain.dedup();
    Plan {
        lead: to_lead(view, &counts, rank, floor, ceiling),
        drain,
    }
}

fn to_lead(
    view: &View<'_>,
    counts: &BTreeMap<&str, usize>,
    rank: usize,
    floor: usize,
    ceiling: usize,
) -> Vec<ShardId> {
    let free: Vec<ShardId> = unpaused(view)
        .filter(|row| row.lease_left.is_zero() || row.leader == view.me)
        .map(|row| row.shard)
        .filter(|shard| !view.mine.contains(shard) && !view.avoid.contains(shard))
        .collect();
    let mine = view.mine.len();
    let needed = floor.saturating_sub(mine).min(free.len());
    let others_need: usize = counts
        .iter()
        .filter(|(name, _)| **name != view.me)
        .map(|(_, count)| floor.saturating_sub(*count))
        .sum();
    let has_spare = free.len() > needed + others_need && mine + needed < ceiling;
    let count = needed + usize::from(has_spare);
    // Each process starts at another place, so that few of them try the same shard.
    let start = if free.is_empty() {
        0
    } else {
        rank * free.len() / counts.len()
    };
    let mut lead: Vec<ShardId> = free
        .iter()
        .cycle()
        .skip(start)
        .take(count.min(free.len()))
        .copied()
        .collect();
    for shard in free.iter().filter(|shard| view.forsaken.contains(shard)) {
        if !lead.contains(shard) {
            lead.push(*shard);
        }
    }
    lead
}

fn to_drain(
    view: &View<'_>,
    counts: &BTreeMap<&str, usize>,
    floor: usize,
    ceiling: usize,
) -> Vec<ShardId> {
    let mine = view.mine.len();
    let somebody_lacks = counts.values().any(|count| *count < floor);
    let at_ceiling: Vec<&str> = counts
        .iter()
        .filter(|(_, count)| **count >= ceiling)
        .map(|(name, _)| *name)
        .collect();
    // Only so many processes may hold one more than the others.
    let may_hold_more = unpaused(view).count() % counts.len();
    let is_surplus = ceiling > floor
        && mine == ceiling
        && somebody_lacks
        && at_ceiling.iter().position(|name| *name == view.me) >= Some(may_hold_more);
    let surplus = mine.saturating_sub(ceiling) + usize::from(is_surplus);
    view.mine.iter().rev().take(surplus).copied().collect()
}

/// Those that an operator wants led.
fn unpaused<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a ShardRow> {
    view.rows.iter().filter(|row| row.paused_by.is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::core::{
        interval_set::IntervalSet,
        types::{Epoch, Position, Timestamp},
    };

    fn row(shard: u16, leader: Option<&str>) -> ShardRow {
        ShardRow {
            shard: ShardId(shard),
            epoch: Epoch(1),
            leader: leader.unwrap_or_default().into(),
            lease_left: Duration::from_secs(u64::from(leader.is_some())),
            next_position: Position::ZERO,
            published_to: Position::ZERO,
            passed_at: Timestamp::default(),
            applied_at: Timestamp::default(),
            state_hash: 0,
            applied: IntervalSet::new(),
            anchor: None,
            paused_by: None,
            interventions: 0,
            recovered_epoch: Epoch(0),
        }
    }

    #[test]
    fn a_leader_whose_lease_ran_out_is_gone_and_one_that_gave_it_up_is_not() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let led = [row(0, Some("a")), row(1, Some("b"))];
        let freed = |shard, leader: &str| ShardRow {
            lease_left: Duration::ZERO,
            ..row(shard, Some(leader))
        };
        let mut leases = Leases::default();
        assert!(leases.gone(start, &led).is_empty());
        let given_up = [freed(0, "a"), row(1, Some("b"))];
        assert!(leases.gone(after(100), &given_up).is_empty());
        assert!(leases.gone(after(1_050), &given_up).is_empty());
        let ran_out = [freed(0, "a"), freed(1, "b")];
        assert_eq!(
            leases.gone(after(2_100), &ran_out),
            BTreeSet::from(["b".to_owned()])
        );
        assert!(leases.gone(after(2_200), &led).is_empty());
        // Nobody knows how a lease ended that was never seen running.
        assert!(Leases::default().gone(start, &ran_out).is_empty());
    }

    /// Every process plans on what it sees and acts at once, in turn; counts rounds to rest.
    fn settle(owners: &mut [Option<usize>], paused: &[bool], members: usize) -> usize {
        let names: Vec<String> = (0..members)
            .map(|index| format!("process-{index}"))
            .collect();
        let all: Vec<Member> = names
            .iter()
            .map(|name| Member {
                name: name.clone(),
                draining: false,
            })
            .collect();
        for round in 0..50 {
            let before = owners.to_vec();
            for (me, name) in names.iter().enumerate() {
                let rows: Vec<ShardRow> = owners
                    .iter()
                    .enumerate()
                    .map(|(shard, owner)| ShardRow {
                        paused_by: paused[shard].then(|| "somebody".into()),
                        ..row(shard as u16, owner.map(|owner| names[owner].as_str()))
                    })
                    .collect();
                let mine = (0..owners.len())
                    .filter(|shard| owners[*shard] == Some(me))
                    .map(|shard| ShardId(shard as u16))
                    .collect();
                let nothing = BTreeSet::new();
                let plan = plan(&View {
                    me: name,
                    members: &all,
                    rows: &rows,
                    mine: &mine,
                    avoid: &nothing,
                    forsaken: &nothing,
                });
                for shard in plan.drain {
                    owners[usize::from(shard.0)] = None;
                }
                for shard in plan.lead {
                    owners[usize::from(shard.0)].get_or_insert(me);
                }
            }
            if owners == before {
                return round;
            }
        }
        panic!("does not come to rest: {owners:?}");
    }

    proptest! {
        /// From any state, with any number of processes: what is not paused is evenly spread within
        /// a few rounds, then at rest; nobody leads what is paused.
        #[test]
        fn shards_end_up_spread_evenly(
            shards in prop::collection::vec((prop::option::of(0_usize..6), any::<bool>()), 1..40),
            members in 1_usize..6,
        ) {
            let (owners, paused): (Vec<_>, Vec<_>) = shards.into_iter().unzip();
            let mut owners: Vec<_> =
                owners.into_iter().map(|owner| owner.filter(|owner| *owner < members)).collect();
            let rounds = settle(&mut owners, &paused, members);
            prop_assert!(rounds <= 10, "{} rounds", rounds);
            let counts: Vec<usize> = (0..members)
                .map(|me| owners.iter().filter(|owner| **owner == Some(me)).count())
                .collect();
            for (owner, paused) in owners.iter().zip(&paused) {
                prop_assert_eq!(owner.is_none(), *paused, "{:?} {:?}", owners, paused);
            }
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }

    #[test]
    fn who_drains_keeps_nothing_and_what_is_forsaken_is_taken() {
        let rows = [row(0, Some("a")), row(1, None)];
        let mine = BTreeSet::from([ShardId(0)]);
        let nothing = BTreeSet::new();
        let members = [("a", true), ("b", false)].map(|(name, draining)| Member {
            name: name.into(),
            draining,
        });
        let view = |me| View {
            me,
            members: &members,
            rows: &rows,
            mine: if me == "a" { &mine } else { &nothing },
            avoid: &nothing,
            forsaken: &nothing,
        };
        assert_eq!(
            plan(&view("a")),
            Plan {
                lead: vec![],
                drain: vec![ShardId(0)]
            }
        );
        assert_eq!(plan(&view("b")).lead, [ShardId(1)]);

        let members = [("a", false), ("b", false)].map(|(name, draining)| Member {
            name: name.into(),
            draining,
        });
        let forsaken = BTreeSet::from([ShardId(1)]);
        let view = View {
            me: "a",
            members: &members,
            rows: &rows,
            mine: &mine,
            avoid: &nothing,
            forsaken: &forsaken,
        };
        assert_eq!(plan(&view).lead, [ShardId(1)], "although `a` has its share");
    }
}
