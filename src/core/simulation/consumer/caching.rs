//! The cache as a consumer has it: what its refreshes are told, and what they ask for.

use super::{
    super::{MILLISECOND, world::World},
    Consumer, Message, TOLD_MAX, refresh, to,
};

impl Consumer {
    pub(super) fn tell_refresh(&mut self, world: &mut World, seat: usize, told: refresh::Told) {
        let entry = &mut self.seats[seat];
        if entry.missed || entry.told.len() >= TOLD_MAX {
            entry.missed = true;
        } else {
            entry.told.push_back(told);
        }
        self.go_on_refreshing(world, seat);
    }

    pub(super) fn make_up_for_missed(&mut self, world: &mut World, seat: usize) {
        let entry = &mut self.seats[seat];
        if entry.missed && entry.told.len() < TOLD_MAX {
            let epoch = entry.leader.status().epoch;
            let told = epoch.map_or(refresh::Told::SteppedDown, refresh::Told::Leads);
            entry.told.push_back(told);
            entry.missed = false;
            self.go_on_refreshing(world, seat);
        }
    }

    pub(super) fn go_on_refreshing(&mut self, world: &mut World, seat: usize) {
        while !self.seats[seat].refresh_is_busy {
            let Some(told) = self.seats[seat].told.pop_front() else {
                break;
            };
            self.refresh(world, seat, refresh::Input::Told(told));
        }
        let entry = &mut self.seats[seat];
        if entry.refresh_is_busy {
            return;
        }
        let due = world.at_mono(self.me.process, entry.refresh.due());
        let due = due.max(world.now + MILLISECOND);
        if entry.refresh_due.is_none_or(|known| due < known) {
            entry.refresh_due = Some(due);
            world.tell_in(self.me, due - world.now, to(Message::RefreshDue(seat)));
        }
    }

    pub(super) fn refresh(&mut self, world: &mut World, seat: usize, input: refresh::Input) {
        let (me, shard) = (self.me, self.seats[seat].shard);
        let now = world.mono(me.process);
        let answer = move |input| to(Message::Refresh(seat, input));
        let failed = || refresh::Input::Failed("away".into());
        world.note(me.process, || format!("shard {shard}: cache: {input:?}"));
        let output = self.seats[seat].refresh.step(now, input);
        self.seats[seat].refresh_is_busy = output.is_some();
        match output {
            None => self.go_on_refreshing(world, seat),
            Some(refresh::Output::Write {
                epoch,
                pulse,
                snapshots,
            }) => world.request(
                me,
                |world| world.now < world.cache.away_until,
                move |world| world.write_cache(shard, epoch, pulse, snapshots),
                move |done| answer(done.map_or_else(failed, refresh::Input::Written)),
            ),
            Some(refresh::Output::List { behind, limit }) => world.tables(
                me,
                move |tables, _| tables.accounts_behind(shard, behind, limit),
                move |page| answer(page.map_or_else(|_| failed(), refresh::Input::Listed)),
            ),
            Some(refresh::Output::Read { accounts }) => world.tables(
                me,
                move |tables, now| Ok(tables.balances(now, &accounts)),
                move |stored| {
                    let read = stored
                        .map(|stored| refresh::Input::read(stored.into_iter().flatten().collect()));
                    answer(read.unwrap_or_else(|_| failed()))
                },
            ),
        }
    }
}
